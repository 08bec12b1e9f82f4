//! Holds the network of the container that it is alone in: see `shoal_executors::docker::network`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_executors::docker::network::serve()
}
