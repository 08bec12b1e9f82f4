//! The container that holds the network of another: an empty image, this program, and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, CreateImageOptionsBuilder, StartContainerOptions,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::net::TcpListener;

use super::super::container;
use super::super::engine::{Engine, is_missing, plain};
use super::super::remove;
use super::handover::{MEETING_DIR, Meeting};

/// The image without a file in it, of all nodes.
const EMPTY_IMAGE: &str = "shoal/empty";
/// Its tag.
const EMPTY_TAG: &str = "1";
/// An archive without a file: two empty blocks.
const EMPTY_ARCHIVE: &[u8] = &[0; 1_024];
/// Where the program is in the container.
const PROGRAM: &str = "/shoal";
/// What the program may use, in bytes: it does nothing.
const MEMORY_BYTES: i64 = 64 << 20;
/// Processes and threads that it may have.
const MAX_PROCESSES: i64 = 8;
/// How long the engine may take to start it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is told of what it says when it fails, in bytes.
const MAX_WORDS_BYTES: usize = 512;

/// A program that calls [`serve`](super::serve): it is run where only the files are that it maps.
#[derive(Debug, Clone)]
pub struct HolderProgram {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A network that is held, and where programs in it find the node.
pub(super) struct Held {
    /// The container that holds it.
    pub(super) id: String,
    pub(super) listener: TcpListener,
}

impl HolderProgram {
    /// The program that is running, started anew with `arguments`.
    pub fn this_program(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, arguments: arguments.into_iter().collect() })
    }
}

/// Starts a holder whose container carries `labels`, and takes what it hands over.
pub(super) async fn hold(
    engine: &Engine,
    program: &HolderProgram,
    labels: HashMap<String, String>,
    meeting: Meeting,
) -> Result<Held, String> {
    let image = empty_image(engine).await?;
    let body = body(engine, program, labels, image, &meeting.dir).map_err(|error| error.to_string())?;
    let made = engine.client.create_container(None::<CreateContainerOptions>, body).await;
    let id = made.map_err(|error| plain(&error))?.id;
    match tokio::time::timeout(PATIENCE, started(engine, &id, meeting)).await {
        Ok(Ok(listener)) => Ok(Held { id, listener }),
        failed => {
            remove(engine, &id).await;
            Err(failed.map_or_else(|_| "it does not start".to_owned(), |failed| failed.err().unwrap_or_default()))
        }
    }
}

async fn started(engine: &Engine, id: &str, meeting: Meeting) -> Result<TcpListener, String> {
    let options = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
    let mut said = engine.client.attach_container(id, Some(options)).await.map_err(|error| plain(&error))?.output;
    engine.client.start_container(id, None::<StartContainerOptions>).await.map_err(|error| plain(&error))?;
    // It says nothing before it fails, and its output ends with it.
    let ended = async {
        let mut words = Vec::new();
        while let Some(Ok(piece)) = said.next().await {
            words.extend(piece.into_bytes().into_iter().take(MAX_WORDS_BYTES - words.len()));
        }
        String::from_utf8_lossy(&words).trim().to_owned()
    };
    tokio::select! {
        received = meeting.receive() => received.map_err(|error| error.to_string()),
        words = ended => Err(format!("this program does not run alone in a container ({words})")),
    }
}

fn body(
    engine: &Engine,
    program: &HolderProgram,
    labels: HashMap<String, String>,
    image: String,
    meeting: &Path,
) -> io::Result<ContainerCreateBody> {
    let node = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let libraries = libraries(&std::fs::read_to_string("/proc/self/maps")?, &std::env::current_exe()?);
    let own = [(program.program.clone(), PROGRAM.to_owned()), (meeting.to_owned(), MEETING_DIR.to_owned())];
    let same = libraries.iter().map(|path| (path.clone(), path.display().to_string()));
    Ok(ContainerCreateBody {
        image: Some(image),
        user: Some(container::user("", &engine.facts, node, false)),
        entrypoint: Some(command(program, &libraries)),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(labels),
        host_config: Some(HostConfig {
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges:true".into()]),
            readonly_rootfs: Some(true),
            network_mode: Some("none".into()),
            ipc_mode: Some("none".into()),
            pids_limit: Some(MAX_PROCESSES),
            memory: Some(MEMORY_BYTES),
            memory_swap: Some(MEMORY_BYTES),
            mounts: Some(own.into_iter().chain(same).map(read_only).collect()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// The files of code that this process maps beside its own: what the program needs that runs alone.
fn libraries(maps: &str, program: &Path) -> BTreeSet<PathBuf> {
    let files = maps.lines().filter_map(|line| {
        let mut words = line.splitn(6, ' ').map(str::trim);
        let (access, path) = (words.nth(1)?, words.nth(3)?);
        (access.contains('x') && path.starts_with('/')).then(|| PathBuf::from(path))
    });
    files.filter(|path| path != program).collect()
}

/// The program is started by its loader, which is told where the libraries are: no link leads to them there.
fn command(program: &HolderProgram, libraries: &BTreeSet<PathBuf>) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let is_loader = |path: &&PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("ld-") && name.contains(".so"))
    };
    let loader = libraries.iter().find(is_loader).into_iter().flat_map(|loader| {
        let folders: BTreeSet<String> = libraries.iter().filter_map(|path| path.parent()).map(text).collect();
        let folders: Vec<String> = folders.into_iter().collect();
        [text(loader), "--library-path".into(), folders.join(":")]
    });
    let arguments = program.arguments.iter().map(|word| word.to_string_lossy().into_owned());
    loader.chain([PROGRAM.to_owned()]).chain(arguments).collect()
}

fn read_only((source, target): (PathBuf, String)) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target),
        read_only: Some(true),
        ..Mount::default()
    }
}

/// The empty image, imported if it is not there.
async fn empty_image(engine: &Engine) -> Result<String, String> {
    let name = format!("{EMPTY_IMAGE}:{EMPTY_TAG}");
    match engine.client.inspect_image(&name).await {
        Ok(_) => return Ok(name),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(plain(&error)),
    }
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(EMPTY_IMAGE).tag(EMPTY_TAG).build();
    let archive = bollard::body_full(Bytes::from_static(EMPTY_ARCHIVE));
    let told = engine.client.create_image(Some(options), Some(archive), None).try_collect::<Vec<_>>().await;
    told.map(|_| name).map_err(|error| plain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c4a00000-55d0c4b00000 r--p 00000000 fe:00 1234                       /opt/shoal
55d0c4b00000-55d0c4c00000 r-xp 00100000 fe:00 1234                       /opt/shoal
7f1c00000000-7f1c00001000 rw-p 00000000 00:00 0 
7f1c10000000-7f1c10100000 r-xp 00028000 fe:00 99                         /usr/lib/x86_64-linux-gnu/libc.so.6
7f1c20000000-7f1c20100000 r--p 00000000 fe:00 98                         /usr/lib/locale/C.utf8/LC_CTYPE
7f1c30000000-7f1c30026000 r-xp 00001000 fe:00 97                         /lib64/ld-linux-x86-64.so.2
7ffd50000000-7ffd50002000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn the_program_is_started_by_its_loader_from_the_files_that_it_maps() {
        let libraries = libraries(MAPS, Path::new("/opt/shoal"));
        let paths: Vec<_> = libraries.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libc.so.6"]);
        let program = HolderProgram { program: "/opt/shoal".into(), arguments: vec!["hold-network".into()] };
        let expected = [
            "/lib64/ld-linux-x86-64.so.2",
            "--library-path",
            "/lib64:/usr/lib/x86_64-linux-gnu",
            PROGRAM,
            "hold-network",
        ];
        assert_eq!(command(&program, &libraries), expected);
        assert_eq!(command(&program, &BTreeSet::new()), [PROGRAM, "hold-network"], "one that is linked statically");
    }
}
