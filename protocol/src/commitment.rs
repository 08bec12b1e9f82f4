//! Seals an answer before anybody sees it, so that nobody can copy it.
//!
//! `BLAKE3(job ‖ execution ‖ worker ‖ result ‖ salt)`, where the result is the canonical claim.

use serde::{Deserialize, Serialize};

use crate::id::{ExecutionId, JobId, PeerId};
use crate::task::Claim;
use crate::wire::canonical;

/// A sealed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment(pub [u8; 32]);

/// What keeps a seal from being guessed: 32 secret bytes, fresh for each execution.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt(pub [u8; 32]);

impl std::fmt::Debug for Salt {
    // A salt is secret until it is revealed, and logs print messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt")
    }
}

/// Seals what `worker` claims of `execution`.
pub fn commit(job: JobId, execution: ExecutionId, worker: PeerId, claim: &Claim, salt: &Salt) -> Commitment {
    let mut hasher = blake3::Hasher::new_derive_key("shoal 1 commitment");
    hasher.update(&job.0).update(&execution.0).update(&worker.0).update(&canonical(claim)).update(&salt.0);
    Commitment(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlobHash;
    use crate::task::Outcome;

    #[test]
    fn a_commitment_binds_every_part() {
        let (job, execution, worker, salt) = (JobId([1; 16]), ExecutionId([2; 16]), PeerId([3; 32]), Salt([4; 32]));
        let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash([5; 32]) };
        let seal = commit(job, execution, worker, &claim, &salt);
        assert_eq!(seal, commit(job, execution, worker, &claim, &salt));
        assert_ne!(seal, commit(JobId([9; 16]), execution, worker, &claim, &salt));
        assert_ne!(seal, commit(job, ExecutionId([9; 16]), worker, &claim, &salt));
        assert_ne!(seal, commit(job, execution, PeerId([9; 32]), &claim, &salt), "a copied answer must not open it");
        assert_ne!(seal, commit(job, execution, worker, &Claim { outcome: Outcome::Exited(1), ..claim }, &salt));
        assert_ne!(seal, commit(job, execution, worker, &claim, &Salt([9; 32])));
    }
}
