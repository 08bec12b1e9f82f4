//! What a user sees: real processes of the built binary, one file a theme.

#![allow(unreachable_pub, reason = "a test binary has no users")]

mod support;

mod abuse;
mod admission;
mod agreement;
mod alone;
mod bacalhau;
mod crash;
mod devnet;
mod docker;
mod doctor;
mod ephemeral;
mod examples;
mod in_place;
mod inspect;
mod ipfs;
mod jobs;
mod keeping;
mod lan;
mod leaks;
mod liars;
mod mesh;
mod nat;
mod networks;
mod options;
mod outliving;
mod private;
mod registry;
mod relay;
mod resolve;
mod results;
mod retention;
mod s3;
mod transfer;
mod versions;
mod web;
mod wrong_input;
