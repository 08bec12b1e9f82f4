//! What the command line accepts, and what its exit status says.

use clap::{CommandFactory, Parser};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("shoal").chain(line.split_whitespace()))
}

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn the_contract_is_accepted() {
    let lines = [
        "node",
        "node --listen 127.0.0.1:0 --join a --join b --mesh home --api-listen 127.0.0.1:0 --executors wasm,docker",
        "node --max-memory 4GiB --max-cpu 2 --max-disk 10GB --data-dir /tmp/x",
        "node --no-mdns --no-port-mapping",
        "node info",
        "node info --format json",
        "ticket --api http://127.0.0.1:1",
        "devnet --nodes 5",
        "devnet --nodes 5 -- job run examples/wordcount/job.yaml --format json",
        "wasm run m.wasm a b",
        "wasm run m.wasm --executions 1 -- --flag",
        "wasm run m.wasm -i a:/b -o out:/out -e K=V --entry-point main -I x.wasm:x --executions 3 --agreement 2",
        "wasm run m.wasm --memory 1GiB --cpu 1 --timeout 9 --network none --detach --id-only",
        "wasm run m.wasm --output out:/out --download d -f --join t",
        "wasm run m.wasm --dry-run --format yaml",
        "wasm inspect m.wasm --entry-point main -I x.wasm:x --format json",
        "wasm inspect m.wasm --output yaml",
        "docker run alpine -o out:/out echo -n hi",
        "docker run --entrypoint sh --workdir /w --gpu 1 --domain x.org --network full alpine",
        "job run job.yaml",
        "job run - -V a=b -E ^A --no-template --detach --id-only",
        "job run job.yaml --output json --download d",
        "job run job.yaml --wait --wait-timeout-secs 600 --node-details --group-events --hide-warnings",
        "docker run --wait=false --target any --concurrency 2 -s region=eu --label a=b alpine",
        "job validate job.yaml",
        "job list --output yaml",
        "job list --output csv --hide-header --no-style --wide --pretty",
        "job describe j-12 --format json",
        "job executions j-12",
        "job history j-12",
        "job logs -f j-12",
        "job logs j-12 -e e-1",
        "job logs j-12 -f -t",
        "job logs j-12 --tail=100",
        "job history j-12 --event-type execution --execution-id e-1",
        "job executions j-12 --limit 5 --wide",
        "job get j-12 dir --all-executions",
        "job get j-12/out/a dir --force",
        "job ls j-12/out -R",
        "job cat j-12/stdout",
        "job stop j-12",
        "blob add path",
        "blob get hash dir",
        "blob list",
        "blob pin hash",
        "blob unpin hash",
        "blob gc",
        "peer list",
        "peer list --wide",
        "doctor",
        "doctor --format json",
        "relay list",
        "relay clients",
        "ticket --expires 7d --qr",
        "mesh create home",
        "mesh invite --expires 1d --uses 3 --qr",
        "mesh uninvite i-00000000000000000000000000000001",
        "mesh revoke 00 --mesh home",
        "mesh show home --output json",
        "mesh list",
        "config show",
        "completions bash",
        "bench wasm --runs 10 --large 5 --format json",
        "--format json --data-dir /tmp job list",
    ];
    for line in lines {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn bad_usage_is_status_2_and_help_is_not() {
    let code = |line: &str| {
        let error = parse(line).unwrap_err();
        if error.use_stderr() { FAILED } else { 0 }
    };
    for line in ["", "nonsense", "job", "job describe", "job run a --detach --follow", "devnet --nodes 0"] {
        assert_eq!(code(line), 2, "{line}");
    }
    for line in ["--help", "--version", "job run --help"] {
        assert_eq!(code(line), 0, "{line}");
    }
}

#[test]
fn a_format_is_the_same_in_both_spellings() {
    let format = |line: &str| {
        let cli = parse(line).unwrap();
        match cli.command {
            Command::Ticket(_) => cli.global.format,
            _ => unreachable!(),
        }
    };
    assert_eq!(format("ticket --format json"), Format::Json);
    assert_eq!(format("--format json ticket"), Format::Json);
    assert_eq!(format("ticket"), Format::Table);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    assert!(is_broken_pipe(&anyhow::Error::new(output::StdoutClosed).context("listing jobs")));
    assert!(!is_broken_pipe(&anyhow::anyhow!("something else")));
}
