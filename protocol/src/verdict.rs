//! What the answers of one partition say: believe one, ask more, or give up.
//!
//! Accepted when all votes agree and there are at least `agreement` of them. After any dissent one result must
//! lead every other by `agreement`; if `max_executions` votes do not bring that, the partition is disputed.

use std::collections::BTreeMap;

use crate::record::Policy;
use crate::task::Claim;

/// What the votes so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This is the result.
    Accepted(Claim),
    /// This many votes more could decide it.
    More(u32),
    /// No result leads by enough, and no more votes may be bought.
    Disputed,
}

/// Judges the votes of one partition, in any order.
pub fn judge(votes: &[Claim], policy: Policy) -> Verdict {
    let mut tally: BTreeMap<Claim, u32> = BTreeMap::new();
    votes.iter().for_each(|claim| *tally.entry(*claim).or_default() += 1);
    let mut ranking: Vec<(u32, Claim)> = tally.into_iter().map(|(claim, count)| (count, claim)).collect();
    ranking.sort_unstable_by(|a, b| b.cmp(a));
    let cast = ranking.iter().map(|(count, _)| count).sum::<u32>();
    let (first, second) = (ranking.first(), ranking.get(1).map_or(0, |(count, _)| *count));
    match first {
        Some((count, claim)) if count - second >= policy.agreement => Verdict::Accepted(*claim),
        _ if cast >= policy.max_executions => Verdict::Disputed,
        _ => {
            let lead = first.map_or(0, |(count, _)| count - second);
            Verdict::More((policy.agreement - lead).min(policy.max_executions - cast))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::BlobHash;
    use crate::task::Outcome;

    const QUORUM: Policy = Policy { agreement: 2, executions: 3, max_executions: 7 };

    fn claim(letter: u8) -> Claim {
        Claim { outcome: Outcome::Exited(0), result: BlobHash([letter; 32]) }
    }

    fn judged(votes: &str) -> Verdict {
        judge(&votes.bytes().map(claim).collect::<Vec<_>>(), QUORUM)
    }

    #[test]
    fn two_of_three_default() {
        let table = [
            ("", Verdict::More(2)),
            ("a", Verdict::More(1)),
            ("aa", Verdict::Accepted(claim(b'a'))),
            ("aaa", Verdict::Accepted(claim(b'a'))),
            ("ab", Verdict::More(2)),
            ("aab", Verdict::More(1)),
            ("aaab", Verdict::Accepted(claim(b'a'))),
            ("abc", Verdict::More(2)),
            ("abab", Verdict::More(2)),
            ("aabbabb", Verdict::Disputed),
            ("aababab", Verdict::Disputed),
            ("abcdefg", Verdict::Disputed),
            ("abcabb", Verdict::More(1)),
        ];
        for (votes, verdict) in table {
            assert_eq!(judged(votes), verdict, "{votes}");
        }
    }

    #[test]
    fn the_same_result_with_another_exit_code_is_dissent() {
        let other = Claim { outcome: Outcome::Exited(1), ..claim(b'a') };
        assert_eq!(judge(&[claim(b'a'), other], QUORUM), Verdict::More(2));
    }

    proptest! {
        #[test]
        fn the_order_of_votes_is_nothing(mut votes in prop::collection::vec(b'a'..b'd', 0..9)) {
            let claims = |votes: &[u8]| votes.iter().copied().map(claim).collect::<Vec<_>>();
            let verdict = judge(&claims(&votes), QUORUM);
            votes.reverse();
            prop_assert_eq!(judge(&claims(&votes), QUORUM), verdict);
        }

        #[test]
        fn more_votes_are_asked_only_while_they_could_decide(
            votes in prop::collection::vec(b'a'..b'd', 0..9), agreement in 1..4u32, extra in 0..3u32, more in 0..4u32,
        ) {
            let policy = Policy { agreement, executions: agreement + extra, max_executions: agreement + extra + more };
            let claims: Vec<Claim> = votes.iter().copied().map(claim).collect();
            match judge(&claims, policy) {
                Verdict::Accepted(winner) => {
                    let count = claims.iter().filter(|claim| **claim == winner).count();
                    prop_assert!(count >= agreement as usize);
                }
                Verdict::More(n) => prop_assert!(n > 0 && claims.len() + n as usize <= policy.max_executions as usize),
                Verdict::Disputed => prop_assert!(claims.len() >= policy.max_executions as usize),
            }
        }
    }
}
