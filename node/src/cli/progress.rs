//! What a job is doing, live on stderr: a board on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use shoal_protocol::id::{ExecutionId, PeerId};
use shoal_protocol::record::Step;

use super::output;
use crate::client::{Client, ClientError};
use crate::views::{BlobView, EventView, FetchRequest, FetchedView, ImportRequest, ImportedView, InputProgressView};

/// Executions that the board shows a line for; more are counted.
const MAX_LINES: usize = 12;
/// Pause between two pictures of a spinner.
const TICK: Duration = Duration::from_millis(100);

/// Pause between two lines about a transfer, where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Whether a person is watching.
fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar for bytes that travel; invisible unless a person is watching.
pub(super) fn bar(what: &str, bytes: u64) -> ProgressBar {
    let target = if is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style =
        ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left");
    let bar = ProgressBar::with_draw_target(Some(bytes), target).with_message(what.to_owned());
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Shows for how long something has been going on, until it is dropped; invisible unless a person is watching.
pub(super) fn waiting(what: &'static str) -> Waiting {
    let target = if is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target).with_message(what);
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let spinner = if let Ok(style) = style { spinner.with_style(style) } else { spinner };
    spinner.enable_steady_tick(TICK);
    Waiting(spinner)
}

/// A spinner that goes away when it is dropped.
pub(super) struct Waiting(ProgressBar);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Has the node fetch content, and shows how far it is.
pub(super) async fn fetch(client: &Client, request: &FetchRequest) -> Result<BlobView, ClientError> {
    let mut shown = Transfer::new("fetching from the mesh".into());
    client.fetch(request, &mut |view| shown.show(&fetched(&view))).await
}

/// Has the node read a file or folder of its machine, and shows how far it is. None if the node does not see it.
pub(super) async fn import(
    client: &Client,
    request: &ImportRequest,
    path: &str,
) -> Result<Option<BlobView>, ClientError> {
    let mut shown = Transfer::new(format!("reading {path}"));
    client.import(request, &mut |view| shown.show(&imported(&view))).await
}

/// Shows how far something is that the node moves, until it is dropped: a line that changes on a terminal, a line now
/// and then elsewhere.
struct Transfer {
    what: String,
    bar: ProgressBar,
    said: Instant,
}

impl Transfer {
    fn new(what: String) -> Self {
        let target = if is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(output::clean(&what));
        let style = ProgressStyle::with_template("{spinner} {msg}");
        let bar = if let Ok(style) = style { bar.with_style(style) } else { bar };
        bar.enable_steady_tick(TICK);
        Self { what, bar, said: Instant::now() }
    }

    fn show(&mut self, far: &str) {
        let text = output::clean(&format!("{}: {far}", self.what));
        if self.bar.is_hidden() && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            output::note(&text);
        }
        self.bar.set_message(text);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How far a fetch has come, in words.
fn fetched(view: &FetchedView) -> String {
    let far = moved(view.bytes, view.total_bytes, view.bytes_per_second, view.seconds_left);
    format!("{far}, {}", output::count(view.providers.into(), "provider"))
}

/// How far an import has come, in words.
fn imported(view: &ImportedView) -> String {
    moved(view.bytes, Some(view.total_bytes), view.bytes_per_second, view.seconds_left)
}

fn moved(bytes: u64, total: Option<u64>, bytes_per_second: u64, seconds_left: Option<u64>) -> String {
    let mut text = output::size(bytes);
    if let Some(total) = total {
        let percent = bytes.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
        let _ = write!(text, " of {} ({percent} %)", output::size(total));
    }
    let _ = write!(text, ", {}/s", output::size(bytes_per_second));
    if let Some(seconds) = seconds_left {
        let _ = write!(text, ", {} left", HumanDuration(Duration::from_secs(seconds)));
    }
    text
}

/// Shows how far the inputs of a job are that is being submitted, until it is dropped: a line that changes on a
/// terminal, a line now and then elsewhere.
pub(super) struct Inputs {
    bar: ProgressBar,
    quiet: bool,
    said: Instant,
}

impl Inputs {
    /// Nothing is shown before the first progress.
    pub(super) fn new(quiet: bool) -> Self {
        let target = if quiet || !is_watched() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {msg}");
        let bar = if let Ok(style) = style { bar.with_style(style) } else { bar };
        Self { bar, quiet, said: Instant::now() }
    }

    /// Shows how far one of them is.
    pub(super) fn show(&mut self, view: &InputProgressView) {
        let text = output::clean(&input_line(view));
        if self.bar.is_hidden() && !self.quiet && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            output::note(&text);
        }
        self.bar.set_message(text);
        self.bar.tick();
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How far an input is, in words.
fn input_line(view: &InputProgressView) -> String {
    let total = view.total_bytes.map(|total| format!(" of {}", output::size(total))).unwrap_or_default();
    format!("reading input {} ({}): {}{total}", view.index, view.target, output::size(view.bytes))
}

/// Shows a job's events as they come.
pub(super) enum Progress {
    /// Nothing is shown.
    Quiet,
    /// A line for each event.
    Lines(Instant),
    /// The same, but the lines of each execution wait for the end and come together.
    Grouped(Instant, Groups),
    /// A head and a line for each execution, which change.
    Live(Box<Live>),
}

/// The board and its place on the terminal.
pub(super) struct Live {
    board: Board,
    screen: MultiProgress,
    head: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Progress {
    /// A display that fits where stderr goes.
    pub(super) fn new(quiet: bool, grouped: bool) -> Self {
        match (quiet, is_watched()) {
            (true, _) => Self::Quiet,
            (false, false) if grouped => Self::Grouped(Instant::now(), Groups::default()),
            (false, false) => Self::Lines(Instant::now()),
            (false, true) => Self::Live(Box::default()),
        }
    }

    /// Shows one more event.
    pub(super) fn show(&mut self, event: &EventView) {
        match self {
            Self::Quiet => {}
            Self::Lines(start) => output::note(line(start.elapsed(), event)),
            Self::Grouped(start, groups) => groups.take(event, line(start.elapsed(), event)),
            Self::Live(live) => live.show(event),
        }
    }

    /// Takes the display away; lines stay.
    pub(super) fn finish(self) {
        match self {
            Self::Live(live) => live.finish(),
            Self::Grouped(_, groups) => groups.0.iter().for_each(|(_, lines)| output::note(lines.join("\n"))),
            Self::Quiet | Self::Lines(_) => {}
        }
    }
}

/// The lines of executions, in the order in which each was first heard of.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<(ExecutionId, Vec<String>)>);

impl Groups {
    /// Keeps the line of an execution; that of the job itself is shown at once.
    fn take(&mut self, event: &EventView, line: String) {
        let Some(id) = event.execution_id else { return output::note(line) };
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, lines)) => lines.push(line),
            None => self.0.push((id, vec![line])),
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let head = screen.add(ProgressBar::new_spinner());
        head.enable_steady_tick(TICK);
        Self { board: Board::default(), screen, head, lines: Vec::new() }
    }
}

impl Live {
    fn show(&mut self, event: &EventView) {
        self.board.apply(event);
        self.head.set_message(output::clean(&self.board.head()));
        let texts = self.board.lines();
        while self.lines.len() < texts.len() {
            let style = ProgressStyle::with_template("  {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            self.lines.push(self.screen.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(output::clean(&text));
        }
    }

    fn finish(self) {
        // The last picture stays on the screen: it tells who did what.
        self.lines.iter().for_each(ProgressBar::abandon);
        self.head.abandon();
    }
}

/// An event as one line.
fn line(elapsed: Duration, event: &EventView) -> String {
    let mut line = format!("{:8.3}s  {:<9}", elapsed.as_secs_f64(), word(event.step));
    if let Some(execution) = event.execution_id {
        let _ = write!(line, " {}", execution.short());
    }
    if let Some(peer) = event.peer_id {
        let _ = write!(line, " peer {}", peer.short());
    }
    if !event.detail.is_empty() {
        let _ = write!(line, " {}", event.detail);
    }
    line.trim_end().to_owned()
}

/// What a job's events add up to.
#[derive(Debug, Default)]
pub(super) struct Board {
    announced: u32,
    bids: u32,
    refusals: u32,
    last: String,
    executions: BTreeMap<u32, (ExecutionId, Option<PeerId>, Step, String)>,
    order: BTreeMap<ExecutionId, u32>,
}

impl Board {
    /// Takes in one more event.
    pub(super) fn apply(&mut self, event: &EventView) {
        match event.step {
            Step::Announce => self.announced += 1,
            Step::Bid => self.bids += 1,
            Step::Refuse => self.refusals += 1,
            _ => {}
        }
        let Some(id) = event.execution_id else {
            if !matches!(event.step, Step::Bid | Step::Refuse) {
                self.last = format!("{} {}", word(event.step), event.detail).trim_end().to_owned();
            }
            return;
        };
        let next = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let place = *self.order.entry(id).or_insert(next);
        let known = self.executions.entry(place).or_insert((id, None, event.step, String::new()));
        known.1 = event.peer_id.or(known.1);
        (known.2, known.3) = (event.step, event.detail.clone());
    }

    /// Everything in one line: what happened last, and counts.
    pub(super) fn head(&self) -> String {
        let count = |step| self.executions.values().filter(|(.., at, _)| *at == step).count();
        let steps = [Step::Award, Step::Fetch, Step::Prepare, Step::Execute, Step::Commit, Step::Reveal, Step::Fail];
        let mut parts = vec![format!("{} bids", self.bids)];
        if self.refusals > 0 {
            parts.push(format!("{} refusals", self.refusals));
        }
        parts.extend(steps.into_iter().filter_map(|step| match count(step) {
            0 => None,
            number => Some(format!("{number} {}", word(step))),
        }));
        format!("{} ({})", self.last, parts.join(", "))
    }

    /// A line for each execution, in the order of awards; the last line counts those that have none.
    pub(super) fn lines(&self) -> Vec<String> {
        let of = |(id, peer, step, detail): &(ExecutionId, Option<PeerId>, Step, String)| {
            let peer = peer.map_or_else(|| "-".into(), |peer| peer.short());
            format!("{}  {peer}  {:<9} {detail}", id.short(), word(*step)).trim_end().to_owned()
        };
        let mut lines: Vec<String> = self.executions.values().take(MAX_LINES).map(of).collect();
        match self.executions.len().saturating_sub(MAX_LINES) {
            0 => {}
            more => lines.push(format!("and {more} more")),
        }
        lines
    }
}

/// A step as it is said of a job or an execution that has come to it.
pub(super) fn word(step: Step) -> &'static str {
    match step {
        Step::Submit => "submitted",
        Step::Announce => "announced",
        Step::Bid => "bid",
        Step::Refuse => "refused",
        Step::Queue => "queued",
        Step::Award => "awarded",
        Step::Fetch => "fetching",
        Step::Prepare => "preparing",
        Step::Execute => "running",
        Step::Commit => "committed",
        Step::Reveal => "revealed",
        Step::Fail => "failed",
        Step::Verify => "verdict",
        Step::Result => "result",
        Step::Publish => "publish",
        Step::End => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u32, step: Step, execution: Option<u8>, detail: &str) -> EventView {
        let peer_id = execution.map(|letter| PeerId([letter; 32]));
        let execution_id = execution.map(|letter| ExecutionId([letter; 16]));
        EventView { sequence, time: String::new(), step, execution_id, peer_id, detail: detail.into() }
    }

    #[test]
    fn a_fetch_tells_how_far_how_fast_how_long_and_from_how_many() {
        let start = FetchedView { bytes: 512, ..FetchedView::default() };
        assert_eq!(fetched(&start), "512 B, 0 B/s, 0 providers");
        let view = FetchedView {
            bytes: 3 << 20,
            total_bytes: Some(4 << 20),
            bytes_per_second: 1 << 20,
            seconds_left: Some(1),
            providers: 1,
        };
        assert_eq!(fetched(&view), "3.0 MiB of 4.0 MiB (75 %), 1.0 MiB/s, 1 second left, 1 provider");
    }

    #[test]
    fn an_import_tells_how_far_how_fast_and_how_long() {
        let view =
            ImportedView { bytes: 1 << 20, total_bytes: 4 << 20, bytes_per_second: 1 << 20, seconds_left: Some(3) };
        assert_eq!(imported(&view), "1.0 MiB of 4.0 MiB (25 %), 1.0 MiB/s, 3 seconds left");
    }

    #[test]
    fn an_input_tells_where_it_goes_and_how_far_it_is() {
        let view = InputProgressView { index: 2, target: "/data".into(), bytes: 3 << 20, total_bytes: None };
        assert_eq!(input_line(&view), "reading input 2 (/data): 3.0 MiB");
        let view = InputProgressView { total_bytes: Some(4 << 20), ..view };
        assert_eq!(input_line(&view), "reading input 2 (/data): 3.0 MiB of 4.0 MiB");
    }

    #[test]
    fn a_line_tells_when_what_and_who() {
        let text = line(Duration::from_millis(1_234), &event(0, Step::Commit, Some(0xab), "ran 12 ms"));
        assert_eq!(text, "   1.234s  committed e-ababababab peer ababababab ran 12 ms");
        assert_eq!(line(Duration::ZERO, &event(0, Step::Submit, None, "")), "   0.000s  submitted");
    }

    #[test]
    fn lines_of_one_execution_come_together() {
        let mut groups = Groups::default();
        let steps = [(Step::Award, 1), (Step::Award, 2), (Step::Fetch, 1), (Step::Fail, 2)];
        for (step, letter) in steps {
            groups.take(&event(0, step, Some(letter), ""), format!("{letter} {}", word(step)));
        }
        let lines: Vec<Vec<String>> = groups.0.into_iter().map(|(_, lines)| lines).collect();
        assert_eq!(lines, [["1 awarded", "1 fetching"], ["2 awarded", "2 failed"]]);
    }

    #[test]
    fn the_board_counts_bids_and_follows_executions() {
        let mut board = Board::default();
        let events = [
            event(0, Step::Announce, None, "round 0, 2 wanted"),
            event(1, Step::Bid, None, "cost 3"),
            event(2, Step::Bid, None, "cost 4"),
            event(3, Step::Award, Some(9), ""),
            event(4, Step::Award, Some(1), ""),
            event(5, Step::Commit, Some(9), "ran 5 ms"),
        ];
        events.iter().for_each(|event| board.apply(event));
        assert_eq!(board.head(), "announced round 0, 2 wanted (2 bids, 1 awarded, 1 committed)");
        assert_eq!(
            board.lines(),
            ["e-0909090909  0909090909  committed ran 5 ms", "e-0101010101  0101010101  awarded"]
        );
    }

    #[test]
    fn a_long_board_counts_what_it_does_not_show() {
        let mut board = Board::default();
        (0..20).for_each(|letter| board.apply(&event(letter.into(), Step::Award, Some(letter), "")));
        assert_eq!(board.lines().len(), MAX_LINES + 1);
        assert_eq!(board.lines().last().unwrap(), "and 8 more");
    }
}
