//! A node's membership of a private mesh: its certificate, who was revoked, and, where the mesh's key is, invitations.
//!
//! All of it is in one file, saved before anything follows from it: a use of an invitation before the certificate is
//! sent, a revocation before it is passed on.

mod record;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use shoal_protocol::id::{InvitationId, MeshId, MeshKey, PeerId};
use shoal_protocol::invitation::{Answer, Invitation, OutOfRange, Refusal, Request, Secret};
use shoal_protocol::limits::{MAX_INVITATIONS, MAX_REVOKED};
use shoal_protocol::membership::{Authority, Certificate, Hello, News, NotAMember, Revocation};
use shoal_protocol::time::{Millis, Time};
use shoal_store::data_dir::DataDir;
use shoal_store::meshes::{self, MeshDir, MeshDirError};

use self::record::Record;
use crate::clock::Clock;

/// Peers that are remembered because they can renew certificates.
const MAX_RENEWERS: usize = 16;
/// Peers that a holder of the key remembers as members.
const MAX_MEMBERS: usize = 4_096;

/// A node's membership of one private mesh. Clones are the same membership.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

struct Inner {
    name: String,
    me: PeerId,
    authority: Authority,
    signer: Option<SigningKey>,
    clock: Clock,
    record: Mutex<Record>,
    dir: MeshDir,
}

/// Why there is no membership, or something cannot be done with it.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Dir(#[from] MeshDirError),
    /// What was saved is no membership.
    #[error("{0} is damaged: restore it from a backup, or remove the folder around it and join anew")]
    Damaged(String),
    /// There is one already.
    #[error("this data directory belongs to a private mesh called {0:?} already: choose another name")]
    Exists(String),
    /// There is none.
    #[error("this data directory belongs to no private mesh called {0:?}; `shoal mesh list` shows those it does")]
    Unknown(String),
    /// The key does not belong to what was saved beside it.
    #[error("the key of private mesh {0:?} is not the one that its members know: restore the right one")]
    OtherKey(String),
    /// Only whoever has the mesh's key can do this.
    #[error("this node does not hold the key of private mesh {0:?}: ask whoever made the mesh")]
    NoKey(String),
    /// The node is a member no more.
    #[error("this node is no member of private mesh {mesh:?} any more ({reason}): ask for an invitation")]
    Ended {
        /// The mesh.
        mesh: String,
        /// What is wrong.
        reason: NotAMember,
    },
    /// An invitation like that cannot be.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// There are too many.
    #[error("{MAX_INVITATIONS} invitations are open already: withdraw some with `shoal mesh uninvite`")]
    TooManyInvitations,
    /// There is no such invitation.
    #[error("there is no open invitation {0}; `shoal mesh show` lists them")]
    NoInvitation(InvitationId),
    /// There are too many.
    #[error("{MAX_REVOKED} peers are revoked, which is the most; they are forgotten 180 days after they were")]
    TooManyRevoked,
    /// It would lock itself out.
    #[error("{} is this node itself, which holds the mesh's key", .0.short())]
    Oneself(PeerId),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

impl Membership {
    /// Makes a private mesh: its key, and this node's certificate.
    pub fn create(dir: &DataDir, name: &str, me: PeerId, clock: Clock) -> Result<Self, MembershipError> {
        // Asked twice: what a running node holds cannot be locked, and somebody else may make it meanwhile.
        let free = || if meshes::is_known(dir, name) { Err(MembershipError::Exists(name.to_owned())) } else { Ok(()) };
        free()?;
        let mesh = MeshDir::lock(dir, name)?;
        free()?;
        mesh.create_key()?;
        Self::of(mesh, name, me, clock)
    }

    /// The membership of the mesh called `name`, if there is one.
    pub fn open(dir: &DataDir, name: &str, me: PeerId, clock: Clock) -> Result<Option<Self>, MembershipError> {
        if !meshes::is_known(dir, name) {
            return Ok(None);
        }
        Self::of(MeshDir::lock(dir, name)?, name, me, clock).map(Some)
    }

    /// What a newcomer was given by a holder of `key`.
    pub fn enter(
        dir: &DataDir,
        (name, key): (&str, MeshKey),
        me: PeerId,
        clock: Clock,
        (certificate, revoked): (Certificate, Vec<Revocation>),
    ) -> Result<Self, MembershipError> {
        let mesh = MeshDir::lock(dir, name)?;
        let mut record = Record::new(key);
        let authority = Authority::new(name, key);
        record.certificate = Some(certificate);
        record.revoked.learn(&authority, revoked, clock.now());
        let membership = Self::assemble(mesh, name, me, clock, record, None);
        membership.standing()?;
        membership.save(&membership.record())?;
        Ok(membership)
    }

    fn of(mesh: MeshDir, name: &str, me: PeerId, clock: Clock) -> Result<Self, MembershipError> {
        let damaged = || MembershipError::Damaged(mesh.membership_path().display().to_string());
        let saved = mesh.load()?.map(|bytes| Record::decode(&bytes).ok_or_else(damaged)).transpose()?;
        let signer = mesh.key()?;
        let own_key = signer.as_ref().map(|signer| MeshKey(signer.verifying_key().to_bytes()));
        let record = match (saved, own_key) {
            (Some(record), Some(key)) if record.key != key => {
                return Err(MembershipError::OtherKey(name.to_owned()));
            }
            (Some(record), _) => record,
            // A key that was copied here is enough.
            (None, Some(key)) => Record::new(key),
            (None, None) => return Err(MembershipError::Unknown(name.to_owned())),
        };
        let membership = Self::assemble(mesh, name, me, clock, record, signer);
        membership.certify_oneself()?;
        Ok(membership)
    }

    fn assemble(
        dir: MeshDir,
        name: &str,
        me: PeerId,
        clock: Clock,
        record: Record,
        signer: Option<SigningKey>,
    ) -> Self {
        let authority = Authority::new(name, record.key);
        let (name, record) = (name.to_owned(), Mutex::new(record));
        Self(Arc::new(Inner { name, me, authority, signer, clock, record, dir }))
    }

    /// The mesh's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// This node.
    pub(crate) fn me(&self) -> PeerId {
        self.0.me
    }

    /// The mesh's id.
    pub fn mesh(&self) -> MeshId {
        self.0.authority.mesh()
    }

    /// The public half of the mesh's key.
    pub fn key(&self) -> MeshKey {
        self.0.authority.key()
    }

    /// Whether the mesh's secret key is here.
    pub fn holds_key(&self) -> bool {
        self.0.signer.is_some()
    }

    /// This node's certificate, if it is good.
    pub fn standing(&self) -> Result<Certificate, MembershipError> {
        let record = self.record();
        let now = self.0.clock.now();
        let checked = match record.certificate {
            _ if record.revoked.has(self.0.me) => Err(NotAMember::Revoked),
            Some(certificate) => self.0.authority.check(&certificate, self.0.me, now).map(|()| certificate),
            None => Err(NotAMember::Expired),
        };
        checked.map_err(|reason| MembershipError::Ended { mesh: self.0.name.clone(), reason })
    }

    /// Whether `certificate` makes `peer` a member now.
    pub(crate) fn admits(&self, peer: PeerId, certificate: &Certificate) -> Result<(), NotAMember> {
        self.0.authority.check(certificate, peer, self.0.clock.now())?;
        if self.is_revoked(peer) { Err(NotAMember::Revoked) } else { Ok(()) }
    }

    /// Whether `peer` was a member and is none any more.
    pub fn is_revoked(&self, peer: PeerId) -> bool {
        self.record().revoked.has(peer)
    }

    /// The time that certificates are checked against.
    pub(crate) fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// What this node shows other members first, while it is one.
    pub(crate) fn hello(&self) -> Option<Hello> {
        let certificate = self.standing().ok()?;
        Some(Hello { certificate, renews: self.holds_key(), revoked: self.record().revoked.digest() })
    }

    /// What `peer`, who showed `hello` and is a member, should hear.
    pub(crate) fn news_for(&self, peer: PeerId, hello: &Hello) -> News {
        let now = self.0.clock.now();
        let mut record = self.record();
        let mut news = News::default();
        if record.revoked.digest() != hello.revoked {
            news.revoked = record.revoked.all().copied().collect();
        }
        if let Some(signer) = self.0.signer.as_ref().filter(|_| hello.certificate.is_due(now)) {
            let certificate = self.0.authority.certify(signer, peer, now);
            news.certificate = self.note_member(&mut record, &certificate).then_some(certificate);
        } else if self.holds_key() {
            self.note_member(&mut record, &hello.certificate);
        }
        if hello.renews && record.renewers.len() < MAX_RENEWERS && record.renewers.insert(peer) {
            self.save_or_warn(&record);
        }
        news
    }

    /// Takes what a member told, and returns whom it newly revokes.
    pub(crate) fn hear(&self, news: News) -> Vec<PeerId> {
        let now = self.0.clock.now();
        let mut record = self.record();
        let new = record.revoked.learn(&self.0.authority, news.revoked, now);
        let later = |fresh: &Certificate| record.certificate.is_none_or(|own| own.expires < fresh.expires);
        let is_good = |fresh: &Certificate| self.0.authority.check(fresh, self.0.me, now).is_ok();
        let fresh = news.certificate.filter(|fresh| later(fresh) && is_good(fresh));
        if let Some(fresh) = fresh {
            record.certificate = Some(fresh);
        }
        if fresh.is_some() || !new.is_empty() {
            self.save_or_warn(&record);
        }
        new
    }

    /// Takes one revocation that was passed on: whether the mesh's key signed it, and whether it is news.
    pub(crate) fn hear_revocation(&self, revocation: Revocation) -> Option<Vec<PeerId>> {
        let is_signed = self.0.authority.is_signed(&revocation);
        is_signed.then(|| self.hear(News { certificate: None, revoked: vec![revocation] }))
    }

    /// Ends the membership of `peer`.
    pub fn revoke(&self, peer: PeerId) -> Result<Revocation, MembershipError> {
        let signer = self.signer()?;
        if peer == self.0.me {
            return Err(MembershipError::Oneself(peer));
        }
        let now = self.0.clock.now();
        let mut record = self.record();
        record.revoked.expire(now);
        if record.revoked.len() >= MAX_REVOKED && !record.revoked.has(peer) {
            return Err(MembershipError::TooManyRevoked);
        }
        let revocation = self.0.authority.revoke(signer, peer, now);
        record.revoked.learn(&self.0.authority, [revocation], now);
        record.members.remove(&peer);
        self.save(&record)?;
        Ok(revocation)
    }

    /// Makes an invitation for `uses` nodes, good for so long.
    pub fn invite(&self, uses: u32, good_for: Millis) -> Result<(Secret, Invitation), MembershipError> {
        self.signer()?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(MembershipError::Randomness)?;
        let (secret, now) = (Secret(bytes), self.0.clock.now());
        let invitation = Invitation::new(&secret, uses, good_for, now)?;
        let mut record = self.record();
        if record.invitations.len() >= MAX_INVITATIONS {
            // Those that let in nobody any more are only kept to say why.
            let closed = record.invitations.iter().position(|invitation| !invitation.is_open(now));
            record.invitations.remove(closed.ok_or(MembershipError::TooManyInvitations)?);
        }
        record.invitations.push(invitation.clone());
        self.save(&record)?;
        Ok((secret, invitation))
    }

    /// Takes back an invitation. Whom it has let in stays.
    pub fn uninvite(&self, id: InvitationId) -> Result<(), MembershipError> {
        self.signer()?;
        let now = self.0.clock.now();
        let mut record = self.record();
        let open = record.invitations.iter_mut().find(|invitation| invitation.id == id && invitation.is_open(now));
        open.ok_or(MembershipError::NoInvitation(id))?.withdrawn = true;
        self.save(&record)
    }

    /// Answers a newcomer that has proved that it knows the secret of an invitation; others get no answer.
    pub(crate) fn redeem(&self, peer: PeerId, request: &Request, binding: &[u8; 32]) -> Option<Answer> {
        let signer = self.0.signer.as_ref()?;
        let now = self.0.clock.now();
        let mut record = self.record();
        let is_revoked = record.revoked.has(peer);
        let invitation = record.invitations.iter_mut().find(|invitation| invitation.is_proved(request, binding))?;
        if is_revoked {
            return Some(Answer::Refused(Refusal::Revoked));
        }
        let before = invitation.used.len();
        if let Err(refusal) = invitation.admit(peer, now) {
            return Some(Answer::Refused(refusal));
        }
        let is_new = invitation.used.len() > before;
        let certificate = self.0.authority.certify(signer, peer, now);
        if !(self.note_member(&mut record, &certificate) && self.save_or_warn(&record)) {
            // What is not on the disk was not counted.
            if is_new {
                record.forget_use(request.id, peer);
            }
            return Some(Answer::Refused(Refusal::Unavailable));
        }
        let revoked = record.revoked.all().copied().collect();
        Some(Answer::Welcome { certificate, revoked })
    }

    /// Peers that can renew this node's certificate, if it is time to.
    pub(crate) fn renewers(&self) -> BTreeSet<PeerId> {
        let now = self.0.clock.now();
        if let Err(error) = self.certify_oneself() {
            tracing::warn!(%error, "the node's own certificate was not renewed");
        }
        let record = self.record();
        let is_due = record.certificate.is_some_and(|certificate| certificate.is_due(now));
        if is_due { record.renewers.clone() } else { BTreeSet::new() }
    }

    /// What there is to show: invitations, revocations, and members as far as they are known.
    pub(crate) fn records(&self) -> Known {
        let (record, now) = (self.record(), self.0.clock.now());
        Known {
            invitations: record.invitations.clone(),
            revoked: record.revoked.all().copied().collect(),
            members: record.members.iter().map(|(peer, end)| (*peer, *end)).filter(|(_, end)| now < *end).collect(),
        }
    }

    /// A holder of the key needs nobody for its own certificate.
    fn certify_oneself(&self) -> Result<(), MembershipError> {
        let Some(signer) = &self.0.signer else { return Ok(()) };
        let now = self.0.clock.now();
        let mut record = self.record();
        let own = record.certificate;
        let is_good = own.is_some_and(|own| self.0.authority.check(&own, self.0.me, now).is_ok() && !own.is_due(now));
        if is_good {
            return Ok(());
        }
        record.certificate = Some(self.0.authority.certify(signer, self.0.me, now));
        self.save(&record)
    }

    /// Remembers a member, if there is room, and says whether all is on the disk.
    fn note_member(&self, record: &mut Record, certificate: &Certificate) -> bool {
        let now = self.0.clock.now();
        if record.members.len() >= MAX_MEMBERS {
            record.members.retain(|_, expires| now < *expires);
        }
        let has_room = record.members.len() < MAX_MEMBERS || record.members.contains_key(&certificate.peer);
        let before = if has_room { record.members.insert(certificate.peer, certificate.expires) } else { None };
        let is_news = has_room && before != Some(certificate.expires);
        !is_news || self.save_or_warn(record)
    }

    fn signer(&self) -> Result<&SigningKey, MembershipError> {
        self.0.signer.as_ref().ok_or_else(|| MembershipError::NoKey(self.0.name.clone()))
    }

    fn save_or_warn(&self, record: &Record) -> bool {
        let saved = self.save(record);
        if let Err(error) = &saved {
            tracing::warn!(%error, "what is known of the private mesh was not saved");
        }
        saved.is_ok()
    }

    fn save(&self, record: &Record) -> Result<(), MembershipError> {
        Ok(self.0.dir.save(&record.encode())?)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a membership knows, for people.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) invitations: Vec<Invitation>,
    pub(crate) revoked: Vec<Revocation>,
    pub(crate) members: Vec<(PeerId, Time)>,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("name", &self.0.name).field("key", &self.0.authority.key()).finish()
    }
}
