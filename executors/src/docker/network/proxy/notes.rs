//! What the job's log is told: one line for each request that was refused, up to a bound.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// Lines of one run.
const MAX_LINES: usize = 100;
/// What is told of one request, in characters.
const MAX_CHARACTERS: usize = 300;

/// Where the lines are written.
#[derive(Debug)]
pub(in super::super) struct Notes {
    lines: mpsc::Sender<String>,
    told: AtomicUsize,
}

/// Where lines are written, and where they come out.
pub(in super::super) fn notes() -> (Notes, mpsc::Receiver<String>) {
    let (lines, out) = mpsc::channel(MAX_LINES + 1);
    (Notes { lines, told: AtomicUsize::new(0) }, out)
}

impl Notes {
    pub(super) fn refused(&self, what: &str, why: &impl Display) {
        let line = match self.told.fetch_add(1, Ordering::Relaxed) {
            told if told < MAX_LINES => {
                format!("shoal: refused {what}: {why}").chars().take(MAX_CHARACTERS).chain(['\n']).collect()
            }
            MAX_LINES => "shoal: refused more than is told here\n".to_owned(),
            _ => return,
        };
        // There is room for all of them, unless nobody listens any more.
        let _ = self.lines.try_send(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_fill_its_log_with_what_is_refused() {
        let (notes, mut lines) = notes();
        for _ in 0..10 * MAX_LINES {
            notes.refused(&"x".repeat(10_000), &"because");
        }
        drop(notes);
        let mut told = Vec::new();
        while let Some(line) = lines.blocking_recv() {
            told.push(line);
        }
        assert_eq!(told.len(), MAX_LINES + 1);
        assert!(told.iter().all(|line| line.len() <= MAX_CHARACTERS + 1 && line.ends_with('\n')));
        assert!(told.last().unwrap().contains("more than is told"));
    }
}
