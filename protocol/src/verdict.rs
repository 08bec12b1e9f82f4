//! What the answers of one partition say: believe one, ask more, or give up.
//!
//! Votes that agree make a camp. Accepted when all votes are of one camp and there are at least `agreement` of them.
//! After any dissent one camp must lead every other by `agreement`; if `max_executions` votes do not bring that, the
//! partition is disputed.

use crate::id::BlobHash;
use crate::record::Policy;
use crate::task::Outcome;

/// An answer, as far as it has to agree with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// How the program ended.
    pub outcome: Outcome,
    /// What of its result is compared, as one hash.
    pub compared: BlobHash,
}

/// What the votes so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The result is that of the camp with this place.
    Accepted(usize),
    /// This many votes more could decide it.
    More(u32),
    /// No camp leads by enough, and no more votes may be bought.
    Disputed,
}

/// Votes that agree, by their places; the first stands for all of them.
pub type Camp = Vec<usize>;

/// Sorts votes into camps: each belongs to the first camp whose first vote it agrees with.
///
/// Equal votes agree, and votes of programs that ended differently do not. Of the rest `agree` is asked; when it does
/// not know yet, the answer is the pair of votes that has to be compared. It need not be transitive: that all agree
/// with the first is what is asked of a camp, so the order of votes must be the same each time.
pub fn camps(votes: &[Vote], agree: impl Fn(BlobHash, BlobHash) -> Option<bool>) -> Result<Vec<Camp>, (usize, usize)> {
    let mut camps: Vec<Camp> = Vec::new();
    for (place, vote) in votes.iter().enumerate() {
        let mut home = None;
        for (index, camp) in camps.iter().enumerate() {
            let first = votes[camp[0]];
            let same = first == *vote;
            let may = first.outcome == vote.outcome;
            if same || (may && agree(first.compared, vote.compared).ok_or((camp[0], place))?) {
                home = Some(index);
                break;
            }
        }
        match home {
            Some(index) => camps[index].push(place),
            None => camps.push(vec![place]),
        }
    }
    Ok(camps)
}

/// Judges the votes of one partition, in any order.
pub fn judge(camps: &[Camp], policy: Policy) -> Verdict {
    let count = |camp: &Camp| u32::try_from(camp.len()).unwrap_or(u32::MAX);
    let mut ranking: Vec<(u32, usize)> = camps.iter().map(count).zip(0..).collect();
    ranking.sort_unstable_by(|a, b| b.cmp(a));
    let cast = ranking.iter().map(|(count, _)| count).sum::<u32>();
    let (first, second) = (ranking.first(), ranking.get(1).map_or(0, |(count, _)| *count));
    match first {
        Some((count, camp)) if count - second >= policy.agreement => Verdict::Accepted(*camp),
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

    const QUORUM: Policy = Policy { agreement: 2, executions: 3, max_executions: 7 };

    fn vote(letter: u8) -> Vote {
        Vote { outcome: Outcome::Exited(0), compared: BlobHash([letter; 32]) }
    }

    fn votes(letters: &[u8]) -> Vec<Vote> {
        letters.iter().copied().map(vote).collect()
    }

    /// Nothing but what is equal agrees.
    fn apart(votes: &[Vote]) -> Vec<Camp> {
        camps(votes, |_, _| Some(false)).expect("everything is known")
    }

    /// Letters agree that are neighbours.
    fn near(a: BlobHash, b: BlobHash) -> Option<bool> {
        Some(a.0[0].abs_diff(b.0[0]) <= 1)
    }

    #[test]
    fn two_of_three_default() {
        let table = [
            ("", Verdict::More(2)),
            ("a", Verdict::More(1)),
            ("aa", Verdict::Accepted(0)),
            ("aaa", Verdict::Accepted(0)),
            ("ab", Verdict::More(2)),
            ("aab", Verdict::More(1)),
            ("aaab", Verdict::Accepted(0)),
            ("baaa", Verdict::Accepted(1)),
            ("abc", Verdict::More(2)),
            ("abab", Verdict::More(2)),
            ("aabbabb", Verdict::Disputed),
            ("aababab", Verdict::Disputed),
            ("abcdefg", Verdict::Disputed),
            ("abcabb", Verdict::More(1)),
        ];
        for (letters, verdict) in table {
            assert_eq!(judge(&apart(&votes(letters.as_bytes())), QUORUM), verdict, "{letters}");
        }
    }

    #[test]
    fn the_same_result_with_another_exit_code_is_dissent() {
        let other = Vote { outcome: Outcome::Exited(1), ..vote(b'a') };
        let camps = camps(&[vote(b'a'), other], |_, _| panic!("nobody is asked"));
        assert_eq!(camps, Ok(vec![vec![0], vec![1]]));
    }

    #[test]
    fn a_camp_is_who_agrees_with_its_first() {
        let sorted = |letters: &str| camps(&votes(letters.as_bytes()), near).unwrap();
        assert_eq!(sorted("abab"), [vec![0, 1, 2, 3]]);
        assert_eq!(sorted("abc"), [vec![0, 1], vec![2]], "c agrees with b, but b does not stand for its camp");
        assert_eq!(sorted("bac"), [vec![0, 1, 2]]);
        assert_eq!(sorted("adb"), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn what_has_to_be_compared_first_is_told_and_equal_votes_are_not_among_it() {
        let known = |letters: &str| camps(&votes(letters.as_bytes()), |_, _| None);
        assert_eq!(known("aaa"), Ok(vec![vec![0, 1, 2]]));
        assert_eq!(known("aab"), Err((0, 2)));
        let b_is_apart = |a: BlobHash, _| (a == BlobHash([b'b'; 32])).then_some(false);
        assert_eq!(camps(&votes(b"bac"), b_is_apart), Err((1, 2)));
    }

    proptest! {
        #[test]
        fn the_order_of_votes_is_nothing_where_agreement_is_equality(
            mut letters in prop::collection::vec(b'a'..b'd', 0..9),
        ) {
            let winner = |letters: &[u8]| {
                let camps = apart(&votes(letters));
                let verdict = judge(&camps, QUORUM);
                let letter = if let Verdict::Accepted(camp) = verdict { Some(letters[camps[camp][0]]) } else { None };
                (letter, if letter.is_some() { Verdict::Accepted(0) } else { verdict })
            };
            let before = winner(&letters);
            letters.reverse();
            prop_assert_eq!(winner(&letters), before);
        }

        #[test]
        fn each_vote_is_in_one_camp_and_agrees_with_its_first(letters in prop::collection::vec(b'a'..b'k', 0..9)) {
            let votes = votes(&letters);
            let sorted = camps(&votes, near).unwrap();
            let mut all: Vec<usize> = sorted.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..votes.len()).collect::<Vec<_>>());
            for camp in &sorted {
                for place in camp {
                    prop_assert_eq!(near(votes[camp[0]].compared, votes[*place].compared), Some(true));
                }
            }
            let firsts: Vec<BlobHash> = sorted.iter().map(|camp| votes[camp[0]].compared).collect();
            for (index, first) in firsts.iter().enumerate() {
                prop_assert!(firsts[..index].iter().all(|other| near(*other, *first) == Some(false)));
            }
        }

        #[test]
        fn more_votes_are_asked_only_while_they_could_decide(
            letters in prop::collection::vec(b'a'..b'd', 0..9), agreement in 1..4u32, extra in 0..3u32, more in 0..4u32,
        ) {
            let policy = Policy { agreement, executions: agreement + extra, max_executions: agreement + extra + more };
            let camps = apart(&votes(&letters));
            match judge(&camps, policy) {
                Verdict::Accepted(winner) => prop_assert!(camps[winner].len() >= agreement as usize),
                Verdict::More(n) => prop_assert!(n > 0 && letters.len() + n as usize <= policy.max_executions as usize),
                Verdict::Disputed => prop_assert!(letters.len() >= policy.max_executions as usize),
            }
        }
    }
}
