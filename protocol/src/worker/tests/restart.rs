//! What becomes of an execution whose node was killed: a module's run is lost, a container may have gone on.

use super::*;
use crate::id::ImageId;
use crate::record::{HeldRecord, Record};
use crate::task::{Docker, Image, ImageOrigin};

fn container_work() -> Vec<u8> {
    let mut work: Work = crate::wire::parse(&work()).unwrap();
    work.invocation.engine = Engine::Docker(Docker::of(Image { id: ImageId([1; 32]), origin: ImageOrigin::Engine }));
    canonical(&work)
}

fn held(work: Vec<u8>) -> HeldRecord {
    let Award { job, execution, partition, resources, contact, .. } = the_award();
    let (requester, awarded) = (REQUESTER, Time(0));
    HeldRecord { job, execution, requester, contact, partition, work, resources, awarded, answer: None }
}

fn restored(record: HeldRecord) -> Machine {
    let mut worker = worker();
    worker.restore(Time(0), [Record::Held(Box::new(record))]);
    worker
}

#[test]
fn the_run_of_a_module_ends_with_its_node() {
    let mut worker = restored(held(work()));
    assert_eq!(waiting(&mut worker), "fail forget release");
    assert_eq!((worker.held_executions(), worker.capacity().0), (0, Resources::default()));
}

#[test]
fn work_that_cannot_be_read_any_more_is_given_up() {
    assert_eq!(waiting(&mut restored(held(vec![1, 2, 3]))), "fail forget release");
}

#[test]
fn a_container_is_taken_up_and_its_answer_is_committed_to() {
    let mut worker = restored(held(container_work()));
    assert_eq!(waiting(&mut worker), "learn resume");
    assert_eq!(worker.capacity().0, RESOURCES, "it uses what it was given");
    assert_eq!(outputs(&mut worker, 100, from_requester(Message::Award(the_award()))), "progress");
    assert_eq!(outputs(&mut worker, 3_000, Input::Tick), "progress");
    assert_eq!(outputs(&mut worker, 3_100, executed()), "save commit");
    assert_eq!(worker.capacity().0, Resources::default());
}

#[test]
fn a_container_that_is_gone_fails_as_the_executor_says() {
    let mut worker = restored(held(container_work()));
    waiting(&mut worker);
    let failed = Input::Executed(execution(), Err(Failure::HostFailed("the node was restarted".into())));
    assert_eq!(outputs(&mut worker, 10, failed), "forget release fail");
    assert_eq!((worker.held_executions(), worker.capacity().0), (0, Resources::default()));
}

#[test]
fn a_container_that_nobody_wants_any_more_is_stopped() {
    let mut worker = restored(held(container_work()));
    waiting(&mut worker);
    assert_eq!(outputs(&mut worker, 10, settle_as(Ending::Cancelled)), "abort forget release");
    assert_eq!(worker.capacity().0, Resources::default());
}
