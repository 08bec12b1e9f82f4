//! Whether this node's operator wants a job, asked once the job itself is known.
//!
//! What an announcement decides is in `shoal_protocol::admission`. Here is what only the world can tell: what the
//! engine calls an image, and what the operator's probes say. A probe that does not answer refuses.

mod document;
mod exec;
mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Client, Url};
use shoal_protocol::admission::{Admission, KnownImage};
use shoal_protocol::id::PeerId;
use shoal_protocol::image::ImageName;
use shoal_protocol::limits::MAX_TEXT_BYTES;
use shoal_protocol::task::{Docker, Engine, Failure, ImageOrigin};
use shoal_protocol::text;
use shoal_store::sources::operators_client;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::AdmissionConfig;
use crate::engine::Containers;
use crate::hands::Needed;
use crate::runner::host;

/// Probes that are asked at once.
const MAX_PROBES: usize = 8;
/// How long a job waits for its turn with a probe, and then for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of a probe's answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4_096;

/// What a job has to pass that was announced to the mesh. A clone is the same.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    me: PeerId,
    policy: Admission,
    containers: Option<Containers>,
    probes: Vec<Probe>,
    turns: Semaphore,
}

/// Somebody who is asked about each job.
struct Probe {
    way: Way,
    /// Whether it does not answer, and a person was told so.
    fails: AtomicBool,
}

enum Way {
    Exec(String),
    Http(Client, Url),
}

/// What a probe says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepts,
    /// With the reason for the requester.
    Refuses(String),
    /// It says nothing, with the reason for the operator.
    Fails(String),
}

impl Gate {
    /// A gate of the node `me`.
    pub(crate) fn new(me: PeerId, config: AdmissionConfig, containers: Option<Containers>) -> Self {
        let AdmissionConfig { policy, probe_exec, probe_http } = config;
        let ways = [probe_exec.map(Way::Exec), probe_http.map(|url| Way::Http(operators_client(), url))];
        let probes = ways.into_iter().flatten().map(|way| Probe { way, fails: AtomicBool::new(false) }).collect();
        Self(Arc::new(Inner { me, policy, containers, probes, turns: Semaphore::new(MAX_PROBES) }))
    }

    /// Whether a job may run.
    pub(crate) async fn admit(&self, needed: &Needed) -> Result<(), Failure> {
        if let Engine::Docker(docker) = &needed.invocation.engine
            && self.0.policy.names_matter()
        {
            self.image(docker, &needed.image_name).await?;
        }
        if self.0.probes.is_empty() {
            return Ok(());
        }
        let document = document::document(self.0.me, needed);
        for probe in &self.0.probes {
            self.ask(probe, &document).await.map_err(Failure::Refused)?;
        }
        Ok(())
    }

    /// A name is what a requester says. What counts is what this node's own engine calls the image, or else where the
    /// engine is to get it.
    async fn image(&self, docker: &Docker, said: &str) -> Result<(), Failure> {
        let id = docker.image.id;
        let here = match &self.0.containers {
            Some(containers) => containers.executor.names(id).await.map_err(host)?,
            None => None,
        };
        let names = match here {
            Some(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
            None => origin(docker, said).into_iter().collect(),
        };
        if self.0.policy.image(&KnownImage { id: Some(id), blob: docker.image.blob(), names }) {
            return Ok(());
        }
        let why = format!("image {} has no name here that its operator allows, whatever the job calls it", id.short());
        Err(Failure::Refused(why))
    }

    async fn ask(&self, probe: &Probe, document: &str) -> Result<(), String> {
        match self.verdict(&probe.way, document).await {
            Verdict::Fails(why) => {
                probe.fails(&why);
                Err("its operator's probe does not answer".to_owned())
            }
            verdict => {
                probe.fails.store(false, Ordering::Relaxed);
                if let Verdict::Refuses(why) = verdict { Err(why) } else { Ok(()) }
            }
        }
    }

    async fn verdict(&self, way: &Way, document: &str) -> Verdict {
        let Ok(Ok(_turn)) = timeout(PATIENCE, self.0.turns.acquire()).await else {
            return Verdict::Fails(format!("{MAX_PROBES} are asked already, and none has answered in time"));
        };
        let answer = async {
            match way {
                Way::Exec(command) => exec::ask(command, document).await,
                Way::Http(client, url) => http::ask(client, url, document).await,
            }
        };
        let late = |_| Verdict::Fails(format!("it has not answered within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, answer).await.unwrap_or_else(late)
    }
}

/// What an image is called where it will come from. Its repository and its digest are certain then; of a tag there is
/// only the requester's word.
fn origin(docker: &Docker, said: &str) -> Option<ImageName> {
    let ImageOrigin::Registry(repository, digest) = &docker.image.origin else { return None };
    let said = said.parse::<ImageName>().ok().filter(|said| said.repository == *repository);
    let tag = said.and_then(|said| said.tag);
    Some(ImageName { repository: repository.clone(), tag, digest: Some(*digest) })
}

impl Probe {
    /// A person is told when it begins, not each time.
    fn fails(&self, why: &str) {
        let name = match &self.way {
            Way::Exec(_) => "probe_exec",
            Way::Http(..) => "probe_http",
        };
        if self.fails.swap(true, Ordering::Relaxed) {
            tracing::debug!(probe = name, why, "the probe still does not answer");
        } else {
            tracing::warn!(probe = name, why, "the probe does not answer: until it does, jobs of others are refused");
        }
    }
}

impl Verdict {
    fn refuses(reason: String, otherwise: impl FnOnce() -> String) -> Self {
        Self::Refuses(if reason.is_empty() { otherwise() } else { reason })
    }
}

/// What somebody says, in one line that can be shown anywhere.
fn words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let said = said.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = said.collect::<Vec<_>>().join(" ");
    text::beginning(&line, MAX_TEXT_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::{BlobHash, ImageId, ManifestDigest};
    use shoal_protocol::task::{Image, Network};

    use super::*;

    const ID: ImageId = ImageId([6; 32]);
    const DIGEST: ManifestDigest = ManifestDigest([7; 32]);

    fn gate(allow: &[&str], deny: &[&str]) -> Gate {
        let patterns = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect();
        let policy = Admission { allow_images: patterns(allow), deny_images: patterns(deny), ..Admission::default() };
        Gate::new(PeerId([1; 32]), AdmissionConfig { policy, probe_exec: None, probe_http: None }, None)
    }

    fn container(image: Image) -> Docker {
        Docker {
            platform: "linux/amd64".into(),
            image,
            entrypoint: Vec::new(),
            parameters: Vec::new(),
            working_directory: None,
            network: Network::None,
            cpu_millis: 500,
            gpus: 0,
        }
    }

    #[tokio::test]
    async fn a_requester_that_lies_of_an_image_has_run_what_the_list_allows_or_nothing() {
        let registry = |name: &str| ImageOrigin::Registry(name.parse().unwrap(), DIGEST);
        let (digest, other) = (format!("busybox@{DIGEST}"), format!("busybox@{}", ManifestDigest([8; 32])));
        let blob = format!("blob://{}", BlobHash([9; 32]));
        let (allowed, busybox) = (["busybox:1.37"], registry("busybox"));
        type Names<'a> = &'a [&'a str];
        let table: [(Names<'_>, Names<'_>, ImageOrigin, &str, bool); 12] = [
            (&allowed, &[], busybox.clone(), "busybox:1.37", true),
            (&allowed, &[], registry("evil/busybox"), "busybox:1.37", false),
            (&allowed, &[], registry("evil.example/busybox"), "docker.io/library/busybox:1.37", false),
            (&allowed, &[], ImageOrigin::Engine, "busybox:1.37", false),
            (&allowed, &[], ImageOrigin::Blob(BlobHash([9; 32])), "busybox:1.37", false),
            (&[&digest], &[], busybox.clone(), &digest, true),
            (&[&other], &[], busybox.clone(), &other, false),
            (&[&other], &[], busybox.clone(), "busybox:1.37", false),
            (&[&blob], &[], ImageOrigin::Blob(BlobHash([9; 32])), "busybox:1.37", true),
            (&[&blob], &[], ImageOrigin::Blob(BlobHash([8; 32])), &blob, false),
            (&[], &["evil/*"], registry("evil/busybox"), "busybox:1.37", false),
            (&[], &[&digest], busybox, &other, false),
        ];
        for (allow, deny, origin, said, expected) in table {
            let docker = container(Image { id: ID, origin });
            let admitted = gate(allow, deny).image(&docker, said).await;
            assert_eq!(admitted.is_ok(), expected, "{allow:?} {deny:?} {:?} called {said}", docker.image.origin);
            assert!(!matches!(admitted, Err(failure) if !matches!(failure, Failure::Refused(_))));
        }
    }
}
