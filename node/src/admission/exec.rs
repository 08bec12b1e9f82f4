//! A probe that is a command: the job is on its standard input, its exit status is the answer.

use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::join3;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::{MAX_ANSWER_BYTES, Verdict, words};

/// The variable that Bacalhau's probes read.
const VARIABLE: &str = "BACALHAU_JOB_SELECTION_PROBE_DATA";
/// Longest value of a variable, in bytes: the kernel takes 128 KiB with its name. A longer job is on the standard input
/// alone.
const MAX_VARIABLE_BYTES: usize = 120 << 10;
/// How long a command that has ended is read from: what it left in the background may keep its output open.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Asks a command about a job. Whoever drops this stops it, with all that it started.
pub(super) async fn ask(command: &str, document: &str) -> Verdict {
    let mut child = match start(command, document) {
        Ok(child) => child,
        Err(error) => return Verdict::Fails(format!("it cannot be started: {error}")),
    };
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let status = {
        let talk = join3(tell(stdin, document), read(stdout, &mut said), read(stderr, &mut complained));
        let (mut talk, mut ended) = (pin!(talk), pin!(child.wait()));
        tokio::select! {
            status = &mut ended => {
                // Nobody may be killed in its name any more: another may soon have it.
                group.0 = None;
                let _ = tokio::time::timeout(LAST_WORDS, talk).await;
                status
            }
            _ = &mut talk => {
                let status = ended.await;
                group.0 = None;
                status
            }
        }
    };
    if !complained.is_empty() {
        tracing::debug!(stderr = words(&complained), "the probe complains");
    }
    status.map_or_else(|error| Verdict::Fails(error.to_string()), |status| judge(status, &said))
}

fn start(command: &str, document: &str) -> std::io::Result<Child> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env_remove(VARIABLE);
    if document.len() <= MAX_VARIABLE_BYTES {
        shell.env(VARIABLE, document);
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.process_group(0).kill_on_drop(true).spawn()
}

/// What a command started, killed when this is dropped before the command has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may just have ended.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Whoever does not want to know closes its end.
async fn tell(stdin: Option<ChildStdin>, document: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(document.as_bytes()).await;
    }
}

/// Keeps the beginning, and reads the rest so that nobody has to wait.
async fn read(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; 4_096];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        let room = MAX_ANSWER_BYTES - kept.len();
        kept.extend_from_slice(&piece[..length.min(room)]);
    }
}

fn judge(status: ExitStatus, said: &[u8]) -> Verdict {
    match status.code() {
        Some(0) => Verdict::Accepts,
        // What a shell says of a command that is not there, or is none.
        Some(code @ 126..=127) => Verdict::Fails(format!("it cannot be run (exit status {code})")),
        Some(code) => Verdict::refuses(words(said), || format!("exit status {code}")),
        None => Verdict::Fails(format!("it was killed ({status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(why: &str) -> Verdict {
        Verdict::Refuses(why.into())
    }

    #[tokio::test]
    async fn the_exit_status_is_the_answer_and_what_is_printed_the_reason() {
        let table = [
            ("exit 0", Verdict::Accepts),
            ("echo fine; echo odd >&2", Verdict::Accepts),
            ("exit 3", refuses("exit status 3")),
            ("echo 'not on'; echo; echo '  sundays\t'; exit 1", refuses("not on sundays")),
            ("echo secret >&2; exit 1", refuses("exit status 1")),
            ("printf 'a\\033[31mb\\377'; exit 1", refuses("a [31mb\u{fffd}")),
            ("exec <&-; exit 0", Verdict::Accepts),
        ];
        for (command, expected) in table {
            assert_eq!(ask(command, &"x".repeat(1 << 20)).await, expected, "{command}");
        }
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_or_crashes_fails() {
        for (command, expected) in [("/no/such/probe", "exit status 127"), ("kill -SEGV $$", "killed")] {
            let Verdict::Fails(why) = ask(command, "{}").await else { panic!("{command} answers") };
            assert!(why.contains(expected), "{why}");
        }
    }

    #[tokio::test]
    async fn the_job_is_on_its_input_and_if_it_is_short_in_bacalhaus_variable() {
        let same = format!(r#"[ "$(cat)" = '{{"a": 1}}' ] && [ "${VARIABLE}" = '{{"a": 1}}' ]"#);
        assert_eq!(ask(&same, r#"{"a": 1}"#).await, Verdict::Accepts);
        let long = "x".repeat(MAX_VARIABLE_BYTES + 1);
        let same = format!(r#"[ "$(wc -c)" -eq {} ] && [ -z "${{{VARIABLE}+set}}" ]"#, long.len());
        assert_eq!(ask(&same, &long).await, Verdict::Accepts);
    }

    #[tokio::test]
    async fn much_that_is_printed_is_cut_and_what_stays_behind_is_not_waited_for() {
        let Verdict::Refuses(why) = ask("yes no | head -c 10000000; exit 1", "{}").await else { panic!("it accepts") };
        assert!(why.len() <= shoal_protocol::limits::MAX_TEXT_BYTES && why.starts_with("no no"), "{why}");
        assert_eq!(ask("sleep 1000 & exit 0", "{}").await, Verdict::Accepts);
    }

    #[tokio::test]
    async fn whoever_does_not_wait_any_more_stops_it_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let command = format!("sleep 1000 & echo $! >{}; wait", file.display());
        let started = async {
            loop {
                match std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n')) {
                    Some(pid) => break pid.trim().parse::<i32>().unwrap(),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let pid = tokio::select! {
            pid = started => pid,
            verdict = ask(&command, "{}") => panic!("{verdict:?}"),
        };
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !gone() {
            assert!(std::time::Instant::now() < deadline, "it still runs");
            tokio::task::yield_now().await;
        }
    }
}
