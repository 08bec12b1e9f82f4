//! Flags that choose which jobs of others a node takes.

use clap::Args;

/// Which jobs of others run. A node's own jobs always do.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Admission of other peers' jobs")]
pub(super) struct AdmissionFlags {
    /// Run only such images: `NAME[:TAG]`, `REGISTRY/PATH/*`, `NAME:*`, `sha256:ID`, `blob://HASH` (repeatable)
    #[arg(long = "allow-image", value_name = "PATTERN")]
    pub(super) allow_images: Vec<String>,
    /// Do not run such images, also if they are allowed (repeatable)
    #[arg(long = "deny-image", value_name = "PATTERN")]
    pub(super) deny_images: Vec<String>,
    /// Run only jobs of this peer (repeatable)
    #[arg(long = "allow-requester", value_name = "PEER")]
    pub(super) allow_requesters: Vec<String>,
    /// Run no jobs of this peer, also if it is allowed (repeatable)
    #[arg(long = "block-requester", value_name = "PEER")]
    pub(super) block_requesters: Vec<String>,
    /// Refuse jobs that read no inputs
    #[arg(long)]
    pub(super) reject_stateless: bool,
    /// Where the inputs of a job may be: `anywhere`, or `local` for those that this node has already
    /// [default: anywhere]
    #[arg(long, value_name = "WHERE")]
    pub(super) locality: Option<String>,
    /// Command that gets each job as JSON on its standard input: exit status 0 accepts, what it prints is the reason
    #[arg(long, value_name = "COMMAND")]
    pub(super) probe_exec: Option<String>,
    /// URL that each job is posted to as JSON: 2xx accepts, the text of another answer is the reason
    #[arg(long, value_name = "URL")]
    pub(super) probe_http: Option<String>,
}
