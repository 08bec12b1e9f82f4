//! Takes up runs that an earlier process of this node began.

use std::path::Path;
use std::time::Duration;

use shoal_protocol::id::{ExecutionId, PeerId};
use shoal_protocol::machine::Finished;
use shoal_protocol::task::{Failure, Invocation, Mount};
use shoal_protocol::wire;
use tokio_util::sync::CancellationToken;

use super::{Hands, Run};
use crate::kept::Owner;
use crate::runner::{self, NOTE, host};

/// A run to take up.
pub(crate) struct Resumed {
    /// Whom it is for.
    pub(crate) requester: PeerId,
    pub(crate) invocation: Invocation,
    /// From the program's start.
    pub(crate) timeout: Duration,
    /// What it may have on the disk, in bytes.
    pub(crate) max_bytes: u64,
}

impl Hands {
    /// Takes up a program that may have gone on, if it did.
    pub(crate) fn resume(&self, execution: ExecutionId, resumed: Resumed) {
        let (requester, dir) = (resumed.requester, self.dir(execution));
        let run = Run { requester, read: noted(&dir), dir, over: CancellationToken::new() };
        self.runs.lock().insert(execution, run.clone());
        self.kept.begin(Owner::Execution(execution));
        let hands = self.clone();
        tokio::spawn(async move {
            let result = hands.take_up(execution, &run, resumed).await;
            hands.ended(execution, run, result).await;
        });
    }

    async fn take_up(&self, execution: ExecutionId, run: &Run, resumed: Resumed) -> Result<Finished, Failure> {
        let Resumed { invocation, timeout, max_bytes, .. } = resumed;
        let executor = self.executor(&invocation)?;
        let room = self.blobs.reserve(max_bytes).await.map_err(host)?;
        self.kept.hold(Owner::Execution(execution), room);
        let (stage, note) = Default::default();
        let cancel = run.over.clone();
        let (dir, trace, writable, images) = (run.dir.as_path(), None, Vec::new(), None);
        let taken = runner::Run { dir, invocation, timeout, trace, writable, images, stage, note, cancel };
        let ran = taken.resume(executor.as_ref(), &self.blobs).await?;
        self.finished(execution, run, ran).await
    }
}

/// What must be known of a run to take it up: what the sources held that were read for it.
pub(super) fn note(read: &[Mount]) -> Vec<u8> {
    if read.is_empty() { Vec::new() } else { wire::canonical(&read) }
}

/// What was noted in the folder of a run; nothing if there is no such run.
fn noted(dir: &Path) -> Vec<Mount> {
    let note = std::fs::read(dir.join(NOTE)).unwrap_or_default();
    wire::parse(&note).unwrap_or_default()
}
