//! Which jobs a worker takes: what its operator allows, asked of an announcement and again of the work itself.
//!
//! An announcement is its requester's word. What it says of an image's name is not believed when it counts: the
//! worker then asks what its own engine calls the image ([`Admission::image`]).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::id::{BlobHash, ImageId, PeerId};
use crate::image::{BLOB_PREFIX, ImageName, ImagePattern};
use crate::message::{Needs, Reason, SourceKind};
use crate::task::{Content, Engine, Invocation};

/// What an operator allows. The default allows everything.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Images that run; none for all that are not denied.
    pub allow_images: Vec<ImagePattern>,
    /// Images that do not run, also if they are allowed.
    pub deny_images: Vec<ImagePattern>,
    /// Peers whose jobs run; none for all that are not blocked.
    pub allow_requesters: BTreeSet<PeerId>,
    /// Peers whose jobs do not run, also if they are allowed.
    pub block_requesters: BTreeSet<PeerId>,
    /// Whether jobs are refused that read nothing.
    pub reject_stateless: bool,
    /// Where the data of a job may be.
    pub locality: Locality,
}

/// Where the data of a job may be that a worker takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// Anywhere: what is not here is fetched.
    #[default]
    Anywhere,
    /// Here already, all of it.
    Local,
}

/// An image, and what it is known as.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KnownImage {
    /// Its id.
    pub id: Option<ImageId>,
    /// The blob that holds it.
    pub blob: Option<BlobHash>,
    /// Its names.
    pub names: Vec<ImageName>,
}

/// What an announcement said of a job's work, to be compared with it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The image.
    pub image: Option<ImageId>,
    /// What its requester calls it.
    pub image_name: String,
    /// The data that it named.
    pub data: Vec<Content>,
}

impl Admission {
    /// Whether jobs of this peer run. It is not told which list it is on, or not on.
    pub fn requester(&self, peer: PeerId) -> Result<(), Reason> {
        let allowed = self.allow_requesters.is_empty() || self.allow_requesters.contains(&peer);
        if allowed && !self.block_requesters.contains(&peer) { Ok(()) } else { Err(Reason::Requester) }
    }

    /// Whether a job as announced may run here, `data_here` if all the data that it names is.
    pub fn announced(&self, from: PeerId, needs: &Needs, data_here: bool) -> Result<(), Reason> {
        self.requester(from)?;
        if let Some(image) = needs.image
            && !self.image(&KnownImage::announced(image.id, &needs.image_name))
        {
            return Err(Reason::Image(needs.image_name.clone()));
        }
        if self.reject_stateless && needs.data == 0 && needs.sources.is_empty() {
            return Err(Reason::Stateless);
        }
        let all_named = usize::from(needs.data) == needs.named_data().count();
        let local = all_named && data_here && needs.sources.iter().all(|kind| *kind == SourceKind::Local);
        if self.locality == Locality::Local && !local { Err(Reason::NotLocal) } else { Ok(()) }
    }

    /// Whether work that was awarded is what was announced, as far as that decided anything.
    pub fn awarded(&self, announced: &Announced, invocation: &Invocation) -> Result<(), &'static str> {
        if let Engine::Docker(docker) = &invocation.engine {
            let blob = blob_of(&announced.image_name);
            if announced.image != Some(docker.image.id) || blob.is_some_and(|_| blob != docker.image.blob()) {
                return Err("the image is not the one that was announced");
            }
        }
        if self.reject_stateless && invocation.inputs.is_empty() && invocation.unread.is_empty() {
            return Err("inputs were announced, and there are none");
        }
        let named = |content| announced.data.contains(content);
        if self.locality == Locality::Local && !invocation.inputs.iter().all(|mount| named(&mount.content)) {
            return Err("it has inputs that were not announced");
        }
        Ok(())
    }

    /// Whether an image that is known as this may run.
    pub fn image(&self, image: &KnownImage) -> bool {
        let listed = |list: &[ImagePattern]| list.iter().any(|pattern| image.is_meant(pattern));
        (self.allow_images.is_empty() || listed(&self.allow_images)) && !listed(&self.deny_images)
    }

    /// Whether it matters what an image is called.
    pub fn names_matter(&self) -> bool {
        self.allow_images.iter().chain(&self.deny_images).any(ImagePattern::is_name)
    }
}

impl KnownImage {
    /// An image as its requester calls it.
    fn announced(id: ImageId, name: &str) -> Self {
        Self { id: Some(id), blob: blob_of(name), names: name.parse().into_iter().collect() }
    }

    fn is_meant(&self, pattern: &ImagePattern) -> bool {
        self.id.is_some_and(|id| pattern.means_id(id))
            || self.blob.is_some_and(|blob| pattern.means_blob(blob))
            || self.names.iter().any(|name| pattern.means_name(name))
    }
}

impl Announced {
    /// What is remembered of an announcement.
    pub fn of(needs: &Needs) -> Self {
        let (image, image_name) = (needs.image.map(|image| image.id), needs.image_name.clone());
        Self { image, image_name, data: needs.named_data().copied().collect() }
    }
}

fn blob_of(name: &str) -> Option<BlobHash> {
    name.strip_prefix(BLOB_PREFIX)?.parse().ok()
}

impl FromStr for Locality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "anywhere" => Ok(Self::Anywhere),
            "local" => Ok(Self::Local),
            other => Err(format!("there is no locality {other:?}; use anywhere or local")),
        }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anywhere => "anywhere",
            Self::Local => "local",
        })
    }
}

#[cfg(test)]
mod tests;
