//! Names of things: peers by key, content and computations by hash, jobs and executions by derived ids.
//!
//! As text, hashes and keys are lower-case hex; jobs start with `j-` and executions with `e-`.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The bytes of the id.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first characters: enough for a person to tell ids apart.
            pub fn short(&self) -> String {
                self.to_string()[..$prefix.len() + 10].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong = || ParseIdError { text: text.chars().take(80).collect(), expected: $expected };
                let digits = text.strip_prefix($prefix).ok_or_else(wrong)?;
                let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| wrong())?;
                Ok(Self(bytes.try_into().map_err(|_| wrong())?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    Ok(Self(<[u8; $len]>::deserialize(deserializer)?))
                }
            }
        }
    };
}

id!(
    /// A node: its ed25519 public key, which is also its libp2p `PeerId` and its iroh `EndpointId`.
    PeerId, 32, "", "a peer id (64 hex digits)"
);
id!(
    /// Content: the BLAKE3 hash of a blob or of a collection's hash sequence.
    BlobHash, 32, "", "a blob hash (64 hex digits)"
);
id!(
    /// A computation: the BLAKE3 hash of a canonical [`Invocation`](crate::task::Invocation).
    InvocationId, 32, "", "an invocation id (64 hex digits)"
);
id!(
    /// A container image: what its engine calls it, the SHA-256 of its configuration, which names its layers by hash.
    ImageId, 32, "sha256:", "an image id (sha256: and 64 hex digits)"
);
id!(
    /// An image as its registry calls it: the SHA-256 of its manifest, or of the list of its platforms' manifests.
    ManifestDigest, 32, "sha256:", "a digest (sha256: and 64 hex digits)"
);
id!(
    /// A job: derived from its requester, work and nonce, so that no other peer can announce it.
    JobId, 16, "j-", "a job id (j- and 32 hex digits)"
);
id!(
    /// One run of one partition of a job by one worker: derived from job, partition and attempt.
    ExecutionId, 16, "e-", "an execution id (e- and 32 hex digits)"
);
id!(
    /// A mesh: the BLAKE3 hash of its name, and of its key if it is private. Signatures of one mesh mean nothing in
    /// another.
    MeshId, 32, "", "a mesh id (64 hex digits)"
);
id!(
    /// The public half of a private mesh's key, which signs who belongs to it.
    MeshKey, 32, "", "a mesh key (64 hex digits)"
);
id!(
    /// An invitation into a private mesh: the hash of its secret.
    InvitationId, 16, "i-", "an invitation id (i- and 32 hex digits)"
);

impl BlobHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl MeshId {
    /// The mesh called `name`.
    pub fn of(name: &str) -> Self {
        Self(blake3::derive_key("shoal 1 mesh", name.as_bytes()))
    }

    /// The private mesh called `name` that belongs to `key`.
    pub fn private(name: &str, key: MeshKey) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("shoal 1 private mesh");
        hasher.update(&key.0).update(name.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl JobId {
    /// The job that `requester` makes of `work` (the hash of its canonical [`Work`](crate::task::Work)).
    pub fn derive(requester: PeerId, work: BlobHash, nonce: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("shoal 1 job");
        hasher.update(&requester.0).update(&work.0).update(&nonce.to_le_bytes());
        Self(first_half(&hasher.finalize()))
    }
}

impl ExecutionId {
    /// The `attempt`-th execution that the job's requester awards for `partition`.
    pub fn derive(job: JobId, partition: u32, attempt: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("shoal 1 execution");
        hasher.update(&job.0).update(&partition.to_le_bytes()).update(&attempt.to_le_bytes());
        Self(first_half(&hasher.finalize()))
    }
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    std::array::from_fn(|i| hash.as_bytes()[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_refuse_what_is_not_theirs() {
        let job = JobId::derive(PeerId([1; 32]), BlobHash::of(b"work"), 7);
        assert_eq!(job.to_string().parse(), Ok(job));
        assert!(job.to_string().parse::<ExecutionId>().is_err());
        assert!("j-12".parse::<JobId>().is_err());
        assert!(BlobHash::of(b"x").to_string().to_uppercase().parse::<BlobHash>().is_err());
    }

    #[test]
    fn a_private_mesh_is_none_of_the_same_name() {
        let (one, two) = (MeshKey([1; 32]), MeshKey([2; 32]));
        let meshes = [MeshId::of("home"), MeshId::private("home", one), MeshId::private("home", two)];
        assert_eq!(meshes.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert_ne!(MeshId::private("lab", one), MeshId::private("home", one));
    }

    #[test]
    fn a_job_belongs_to_its_requester() {
        let work = BlobHash::of(b"work");
        assert_ne!(JobId::derive(PeerId([1; 32]), work, 7), JobId::derive(PeerId([2; 32]), work, 7));
    }
}
