//! What a membership keeps over restarts, and whom it lets in.

use shoal_protocol::limits::CERTIFICATE_MS;

use super::*;

const DAY: Millis = 86_400_000;
const BINDING: [u8; 32] = [9; 32];

fn peer(n: u8) -> PeerId {
    PeerId([n; 32])
}

struct Home {
    root: tempfile::TempDir,
    holder: Membership,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let holder = Membership::create(&DataDir::new(root.path()), "home", peer(1), Clock::start()).unwrap();
        Self { root, holder }
    }

    /// The holder after it was killed and started again.
    fn restart(self) -> Self {
        let Self { root, holder } = self;
        drop(holder);
        let holder = Membership::open(&DataDir::new(root.path()), "home", peer(1), Clock::start()).unwrap().unwrap();
        Self { root, holder }
    }

    fn redeem(&self, secret: &Secret, newcomer: PeerId) -> Option<Answer> {
        self.holder.redeem(newcomer, &secret.request(&BINDING), &BINDING)
    }

    fn member(&self, n: u8) -> (tempfile::TempDir, Membership) {
        let (secret, _) = self.holder.invite(1, DAY).unwrap();
        let Some(Answer::Welcome { certificate, revoked }) = self.redeem(&secret, peer(n)) else {
            panic!("the invitation is good")
        };
        let root = tempfile::tempdir().unwrap();
        let (dir, key) = (DataDir::new(root.path()), self.holder.key());
        let entered = Membership::enter(&dir, ("home", key), peer(n), Clock::start(), (certificate, revoked));
        (root, entered.unwrap())
    }
}

#[test]
fn whoever_makes_a_mesh_is_its_first_member_and_stays_it() {
    let home = Home::new();
    let (key, certificate) = (home.holder.key(), home.holder.standing().unwrap());
    let home = home.restart();
    assert!(home.holder.holds_key() && home.holder.key() == key);
    assert_eq!(home.holder.standing().unwrap(), certificate);
    drop(home.holder);
    let again = Membership::create(&DataDir::new(home.root.path()), "home", peer(1), Clock::start());
    assert!(matches!(again, Err(MembershipError::Exists(_))));
}

#[test]
fn a_copy_of_the_key_makes_a_second_holder() {
    let home = Home::new();
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::new(root.path());
    std::fs::create_dir_all(dir.meshes().join("home")).unwrap();
    std::fs::copy(home.holder.0.dir.key_path(), dir.meshes().join("home/key")).unwrap();
    let second = Membership::open(&dir, "home", peer(2), Clock::start()).unwrap().unwrap();
    let certificate = second.standing().unwrap();
    assert_eq!(home.holder.admits(peer(2), &certificate), Ok(()));
}

#[test]
fn an_invitation_is_counted_over_restarts() {
    let home = Home::new();
    let (secret, _) = home.holder.invite(1, DAY).unwrap();
    let home = home.restart();
    assert!(matches!(home.redeem(&secret, peer(2)), Some(Answer::Welcome { .. })));
    let home = home.restart();
    assert_eq!(home.redeem(&secret, peer(3)), Some(Answer::Refused(Refusal::UsedUp(1))));
    assert!(matches!(home.redeem(&secret, peer(2)), Some(Answer::Welcome { .. })), "whose answer was lost");
    assert_eq!(home.redeem(&Secret([0; 16]), peer(3)), None, "others hear nothing");
}

#[test]
fn two_at_once_for_one_use_are_one() {
    let home = Home::new();
    let (secret, _) = home.holder.invite(1, DAY).unwrap();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = |n: u8| home.redeem(&secret, peer(n)).unwrap();
        let asked: Vec<_> = (2..10).map(|n| scope.spawn(move || ask(n))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let welcome = answers.iter().filter(|answer| matches!(answer, Answer::Welcome { .. }));
    assert_eq!(welcome.count(), 1);
}

#[test]
fn a_withdrawn_invitation_says_so() {
    let home = Home::new();
    let (secret, invitation) = home.holder.invite(5, DAY).unwrap();
    home.holder.uninvite(invitation.id).unwrap();
    assert_eq!(home.redeem(&secret, peer(2)), Some(Answer::Refused(Refusal::Withdrawn)));
    assert!(matches!(home.holder.uninvite(invitation.id), Err(MembershipError::NoInvitation(_))));
}

#[test]
fn invitations_are_bounded_and_closed_ones_make_room() {
    let home = Home::new();
    let first = home.holder.invite(1, DAY).unwrap().1.id;
    for _ in 1..MAX_INVITATIONS {
        home.holder.invite(1, DAY).unwrap();
    }
    assert!(matches!(home.holder.invite(1, DAY), Err(MembershipError::TooManyInvitations)));
    home.holder.uninvite(first).unwrap();
    home.holder.invite(1, DAY).unwrap();
    assert_eq!(home.holder.records().invitations.len(), MAX_INVITATIONS);
}

#[test]
fn a_member_that_was_away_hears_of_revocations_in_the_next_handshake() {
    let home = Home::new();
    let (_one_root, one) = home.member(2);
    let (_two_root, two) = home.member(3);
    home.holder.revoke(peer(3)).unwrap();
    let news = home.holder.news_for(peer(2), &one.hello().unwrap());
    assert_eq!(one.hear(news), [peer(3)]);
    assert_eq!(one.admits(peer(3), &two.standing().unwrap()), Err(NotAMember::Revoked));
    let nothing = home.holder.news_for(peer(2), &one.hello().unwrap());
    assert!(nothing.revoked.is_empty(), "both know the same now");
    // A third one hears it from a member.
    let (_three_root, three) = home.member(4);
    assert!(three.is_revoked(peer(3)), "newcomers are told at once");
}

#[test]
fn the_revoked_stay_so_over_restarts_and_are_not_invited_again() {
    let home = Home::new();
    home.holder.revoke(peer(3)).unwrap();
    let home = home.restart();
    assert!(home.holder.is_revoked(peer(3)));
    let (secret, _) = home.holder.invite(1, DAY).unwrap();
    assert_eq!(home.redeem(&secret, peer(3)), Some(Answer::Refused(Refusal::Revoked)));
    assert!(matches!(home.redeem(&secret, peer(4)), Some(Answer::Welcome { .. })), "that was no use of it");
    assert!(matches!(home.holder.revoke(peer(1)), Err(MembershipError::Oneself(_))));
}

#[test]
fn only_a_holder_of_the_key_invites_and_revokes() {
    let home = Home::new();
    let (_root, member) = home.member(2);
    assert!(matches!(member.invite(1, DAY), Err(MembershipError::NoKey(_))));
    assert!(matches!(member.revoke(peer(3)), Err(MembershipError::NoKey(_))));
    assert_eq!(member.redeem(peer(3), &Secret([1; 16]).request(&BINDING), &BINDING), None);
}

#[test]
fn a_holder_renews_what_is_due_and_only_that() {
    let home = Home::new();
    let (_root, member) = home.member(2);
    let hello = member.hello().unwrap();
    assert_eq!(home.holder.news_for(peer(2), &hello).certificate, None);
    let signer = home.holder.signer().unwrap();
    let old = Time(home.holder.now().0 - CERTIFICATE_MS / 2);
    let old = home.holder.0.authority.certify(signer, peer(2), old);
    let fresh = home.holder.news_for(peer(2), &Hello { certificate: old, ..hello }).certificate.unwrap();
    assert!(fresh.expires > old.expires);
    member.record().certificate = Some(old);
    member.hear(News { certificate: Some(fresh), revoked: vec![] });
    assert_eq!(member.standing().unwrap(), fresh);
    let later = Time(fresh.expires.0);
    let foreign = home.holder.0.authority.certify(signer, peer(3), later);
    member.hear(News { certificate: Some(foreign), revoked: vec![] });
    assert_eq!(member.standing().unwrap(), fresh, "what is not for us is not taken");
}

#[test]
fn a_member_whose_time_is_over_is_told_to_ask_again() {
    let home = Home::new();
    let (_root, member) = home.member(2);
    // Longer ago than two clocks of one machine may differ.
    let old = Time(home.holder.now().0 - CERTIFICATE_MS - 60_000);
    member.record().certificate = Some(home.holder.0.authority.certify(home.holder.signer().unwrap(), peer(2), old));
    let message = member.standing().unwrap_err().to_string();
    assert!(message.contains("expired") && message.contains("ask for an invitation"), "{message}");
    assert!(member.hello().is_none());
}

#[test]
fn a_damaged_file_is_named_and_kept() {
    let home = Home::new();
    let path = home.holder.0.dir.membership_path();
    drop(home.holder);
    std::fs::write(&path, b"\x01garbage").unwrap();
    let error = Membership::open(&DataDir::new(home.root.path()), "home", peer(1), Clock::start()).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"\x01garbage");
}
