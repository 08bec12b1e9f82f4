//! `shoal mesh`: private meshes, which only members can talk in.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use shoal_protocol::id::{InvitationId, PeerId};
use shoal_store::data_dir::DataDir;
use shoal_store::{identity, meshes};

use super::{Global, Status, connect, output, qr};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::DEFAULT_MESH;
use crate::membership::{Membership, MembershipError};
use crate::views::{InviteRequest, MemberView, MeshView};

/// `shoal mesh`.
#[derive(Debug, Args)]
pub(super) struct Mesh {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a private mesh; its key stays in this data directory
    Create(Create),
    /// Have the running node make a ticket that lets others into its private mesh
    Invite(Invite),
    /// Take back an invitation
    Uninvite(Uninvite),
    /// Send a peer away from the private mesh; every member hears of it
    Revoke(Revoke),
    /// Show a private mesh: members, invitations, and who was sent away
    Show(Show),
    /// List the private meshes that this data directory belongs to
    List(output::OutputFlag),
}

#[derive(Debug, Args)]
struct Create {
    /// What it is called: letters, digits, '-', '_' and '.'
    name: String,
}

#[derive(Debug, Args)]
struct Invite {
    /// For how long it is good
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// How many nodes it lets in
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// Show it as a QR code too
    #[arg(long)]
    qr: bool,
}

#[derive(Debug, Args)]
struct Uninvite {
    /// Its id, as `shoal mesh show` prints it
    #[arg(value_name = "INVITATION")]
    id: InvitationId,
}

#[derive(Debug, Args)]
struct Revoke {
    /// Its id, or a unique beginning of that of a member
    #[arg(value_name = "PEER")]
    peer: String,
    /// Which private mesh, if this data directory belongs to several
    #[arg(long, value_name = "NAME")]
    mesh: Option<String>,
}

#[derive(Debug, Args)]
struct Show {
    /// Which private mesh, if this data directory belongs to several
    #[arg(value_name = "NAME")]
    mesh: Option<String>,
    #[command(flatten)]
    output: output::OutputFlag,
}

/// Who answers for a private mesh: the node that is in it, or else its files.
enum At {
    Node(Client, Box<MeshView>),
    Files(Membership),
}

impl Mesh {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        match self.command {
            Command::Create(command) => command.run(global)?,
            Command::Invite(command) => command.run(global).await?,
            Command::Uninvite(command) => connect::running(global).await?.uninvite(command.id).await?,
            Command::Revoke(command) => command.run(global).await?,
            Command::Show(command) => command.run(global).await?,
            Command::List(output) => list(global, output)?,
        }
        Ok(Status::Done)
    }
}

impl Create {
    fn run(self, global: &Global) -> Result<()> {
        if self.name == DEFAULT_MESH {
            bail!(
                "{DEFAULT_MESH:?} is the mesh that nodes are in unless told otherwise, and anybody's: choose another name"
            );
        }
        let root = global.data_dir()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .with_context(|| format!("cannot use {}", root.display()))?;
        let dir = DataDir::new(&root);
        let membership = Membership::create(&dir, &self.name, me(&dir)?, Clock::start())?;
        output::show(global.format, &MeshView::new(&membership, &[]), table)?;
        output::note(format_args!(
            "start a node in it with `shoal node --mesh {name}`, then let others in with `shoal mesh invite`. \
             Keep a copy of {key}: without it nobody can be invited or sent away.",
            name = self.name,
            key = dir.meshes().join(&self.name).join("key").display(),
        ));
        Ok(())
    }
}

impl Invite {
    async fn run(self, global: &Global) -> Result<()> {
        let request = InviteRequest { seconds: whole_seconds(self.expires), uses: self.uses };
        let invited = connect::running(global).await?.invite(&request).await?;
        if self.qr {
            qr::print(global.format, &invited.ticket)?;
        }
        output::show(global.format, &invited, |invited| invited.ticket.clone())?;
        output::note(format_args!(
            "{} lets {} in until {}, through this node, which must be running. Whoever has the ticket can use it: \
             `shoal node --join FILE` reads it from a file.",
            invited.id,
            output::count(invited.uses.into(), "node"),
            invited.expires,
        ));
        Ok(())
    }
}

impl Revoke {
    async fn run(self, global: &Global) -> Result<()> {
        match at(global, self.mesh.as_deref()).await? {
            At::Node(client, mesh) => {
                let peer = peer(&self.peer, &mesh)?;
                client.revoke(peer).await?;
                output::note(format_args!("{peer} is no member of {:?} any more, and the mesh is told", mesh.name));
            }
            At::Files(membership) => {
                let peer = peer(&self.peer, &MeshView::new(&membership, &[]))?;
                membership.revoke(peer)?;
                output::note(format_args!(
                    "{peer} is no member of {:?} any more; the mesh is told when a node of this data directory starts",
                    membership.name()
                ));
            }
        }
        Ok(())
    }
}

impl Show {
    async fn run(self, global: &Global) -> Result<()> {
        let mesh = match at(global, self.mesh.as_deref()).await? {
            At::Node(_, mesh) => *mesh,
            At::Files(membership) => MeshView::new(&membership, &[]),
        };
        output::show(self.output.format(global.format), &mesh, table)
    }
}

fn list(global: &Global, output: output::OutputFlag) -> Result<()> {
    let names = meshes::names(&DataDir::new(global.data_dir()?))?;
    output::show(output.format(global.format), &names, |names| names.join("\n"))
}

/// Finds the mesh called `name`, or the only one there is.
async fn at(global: &Global, name: Option<&str>) -> Result<At> {
    if let Some(client) = connect::find(global).await? {
        match client.mesh().await {
            Ok(mesh) if name.is_none_or(|name| name == mesh.name) => return Ok(At::Node(client, Box::new(mesh))),
            Err(error) if error.code() != Some("not_found") => return Err(error.into()),
            // The node is in another mesh.
            Ok(_) | Err(_) => {}
        }
    }
    let dir = DataDir::new(global.data_dir()?);
    let names = meshes::names(&dir)?;
    let name = match (name, &names[..]) {
        (Some(name), _) => name,
        (None, [name]) => name,
        (None, []) => bail!(
            "the data directory {} belongs to no private mesh: make one with `shoal mesh create NAME`, or join one \
             with an invitation",
            dir.root().display()
        ),
        (None, names) => bail!("there are several private meshes here: name one of {}", names.join(", ")),
    };
    match Membership::open(&dir, name, me(&dir)?, Clock::start())? {
        Some(membership) => Ok(At::Files(membership)),
        None => Err(MembershipError::Unknown(name.to_owned()).into()),
    }
}

/// Less than a second is still some time, and no time is none.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    if duration.is_zero() { 0 } else { duration.as_secs().max(1) }
}

fn me(dir: &DataDir) -> Result<PeerId> {
    Ok(identity::peer_id(&identity::load_or_create(&dir.identity_key())?))
}

/// The peer of that id, or the only member whose id begins so.
fn peer(text: &str, mesh: &MeshView) -> Result<PeerId> {
    if let Ok(peer) = text.parse() {
        return Ok(peer);
    }
    let members = mesh.members.iter().map(|member| member.peer_id);
    let found: Vec<PeerId> = members.filter(|peer| !text.is_empty() && peer.to_string().starts_with(text)).collect();
    match found[..] {
        [peer] => Ok(peer),
        [] => bail!("{text:?} is no peer id (64 hex digits), and no known member of {:?} begins so", mesh.name),
        _ => bail!("{} members of {:?} begin with {text:?}: write more of the id", found.len(), mesh.name),
    }
}

fn table(mesh: &MeshView) -> String {
    let key = if mesh.holds_key { format!("{} (its secret half is here)", mesh.key) } else { mesh.key.to_string() };
    let standing = match (&mesh.expires, &mesh.ended) {
        (Some(expires), _) => format!("until {expires}, renewed before"),
        (None, ended) => ended.clone().unwrap_or_else(|| "none".into()),
    };
    let head = output::pairs([("mesh", mesh.name.clone()), ("key", key), ("member", standing)]);
    let members = mesh.members.iter().map(|member| {
        let now = match member {
            MemberView { this_node: true, .. } => "this node",
            MemberView { connected: true, .. } => "connected",
            _ => "-",
        };
        [member.peer_id.to_string(), now.to_owned(), member.expires.clone()]
    });
    let members = output::table(["member", "now", "until"], members);
    let revoked = mesh.revoked.iter().map(|revoked| [revoked.peer_id.to_string(), revoked.until.clone()]);
    let invitations = mesh.invitations.iter().map(|of| {
        [of.id.to_string(), of.state.clone(), format!("{} of {}", of.used.len(), of.uses), of.expires.clone()]
    });
    let mut parts = vec![head, members];
    if !mesh.revoked.is_empty() {
        parts.push(output::table(["revoked", "forgotten"], revoked));
    }
    if !mesh.invitations.is_empty() {
        parts.push(output::table(["invitation", "state", "used", "until"], invitations));
    }
    parts.join("\n\n")
}
