//! Containers: what a worker says while it gets their image, and when it does not even try.

use super::*;
use crate::id::{ImageId, ManifestDigest};
use crate::message::{Amount, ImageSource, NeededImage, Progress, Stage};
use crate::task::{Docker, Image, ImageOrigin};

const PLATFORM: &str = "linux/amd64";
const IMAGE: ImageId = ImageId([6; 32]);

fn container() -> Vec<u8> {
    let origin = ImageOrigin::Registry("localhost:5000/a".parse().unwrap(), ManifestDigest([7; 32]));
    let docker = Docker::of(Image { id: IMAGE, origin });
    let mut work: Work = crate::wire::parse(&work()).unwrap();
    work.invocation.engine = Engine::Docker(docker);
    canonical(&work)
}

fn its_job() -> JobId {
    JobId::derive(REQUESTER, BlobHash::of(&container()), NONCE)
}

fn its_execution() -> ExecutionId {
    ExecutionId::derive(its_job(), 0, 0)
}

fn its_award() -> Input {
    let (job, execution, work) = (its_job(), its_execution(), container());
    from_requester(Message::Award(Award { job, execution, work, ..the_award() }))
}

fn its_announcement(source: ImageSource) -> Announce {
    let image = Some(NeededImage { id: IMAGE, source, bytes: 1_000 });
    let needs = Needs { executor: ExecutorKind::Docker, profile: PLATFORM.into(), image, ..announcement().needs };
    Announce { job: its_job(), work: BlobHash::of(&container()), needs, refusals: 10, mesh_size: 1, ..announcement() }
}

fn docker_worker() -> Machine {
    let executors = [(ExecutorKind::Docker, PLATFORM.into())].into();
    Machine::new(ME, Offering { executors, capacity: RESOURCES.times(2), ..Offering::default() }, [3; 32])
}

/// A worker that was awarded the container and has its inputs.
fn preparing() -> Machine {
    let mut worker = docker_worker();
    let steps = [
        (0, announced(its_announcement(ImageSource::Registry)), ""),
        (100, Input::Tick, "bid"),
        (110, its_award(), "save learn fetch-blobs"),
        (120, Input::Fetched(its_execution(), Ok(())), "execute"),
    ];
    for (now, input, expected) in steps {
        assert_eq!(outputs(&mut worker, now, input), expected, "at {now}");
    }
    worker
}

/// What it tells its requester when that asks.
fn told(worker: &mut Machine, now: u64) -> (Stage, Option<Amount>) {
    worker.handle(Time(now), its_award());
    match worker.poll() {
        Some(Output::Send(REQUESTER, Message::Progress(Progress { stage, amount, .. }))) => (stage, amount),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_worker_does_before_a_container_starts_is_no_running() {
    let mut worker = preparing();
    assert_eq!(told(&mut worker, 130), (Stage::Preparing, None));
    let amount = Amount { done_bytes: 5, total_bytes: 10 };
    assert_eq!(outputs(&mut worker, 140, Input::Preparing(its_execution(), amount)), "");
    assert_eq!(told(&mut worker, 150), (Stage::Preparing, Some(amount)));
    assert_eq!(outputs(&mut worker, 160, Input::Started(its_execution())), "");
    assert_eq!(told(&mut worker, 170), (Stage::Running, None));
    assert_eq!(outputs(&mut worker, 180, Input::Preparing(its_execution(), amount)), "", "too late");
    assert_eq!(told(&mut worker, 190), (Stage::Running, None));
}

#[test]
fn a_worker_says_again_and_again_that_it_prepares() {
    let mut worker = preparing();
    let mut said = Vec::new();
    while said.len() < 5 {
        let at = worker.deadline().expect("it has something to say").0;
        // Its bid lapses between.
        said.extend(Some(outputs(&mut worker, at, Input::Tick)).filter(|said| !said.is_empty()));
    }
    assert_eq!(said, ["progress"; 5]);
}

#[test]
fn what_cannot_be_prepared_fails_and_what_is_not_wanted_is_stopped() {
    let missing = Failure::InputMissing("image: gone".into());
    let failed = Input::Executed(its_execution(), Err(missing));
    assert_eq!(outputs(&mut preparing(), 200, failed), "forget release fail");
    let cancel = Settle { job: its_job(), execution: its_execution(), ending: Ending::Cancelled };
    assert_eq!(outputs(&mut preparing(), 200, from_requester(Message::Settle(cancel))), "abort forget release");
}

#[test]
fn a_worker_that_cannot_have_the_image_says_so_instead_of_bidding() {
    let means = Means { missing_bytes: 0, disk_bytes: u64::MAX, has_image: false, data_here: true };
    for source in [ImageSource::Nowhere, ImageSource::Registry] {
        let mut worker = docker_worker();
        worker.handle(Time(0), announced_to(means, its_announcement(source)));
        let Some(Output::Send(REQUESTER, Message::Refuse(refuse))) = worker.poll() else { panic!("it refuses") };
        assert_eq!(refuse.reason, Reason::NoImage(source));
        assert_eq!(outputs(&mut worker, 100, Input::Tick), "");
    }
}
