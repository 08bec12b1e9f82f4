//! What can be called: every function of preview 1, and every function of preview 2 as a core module sees it, with what
//! each of its parameters means. A number that means something is far more often one that finds something.

use wit_parser::abi::WasmType;
use wit_parser::{
    Function, Handle, ManglingAndAbi, Resolve, ResourceIntrinsic, Type, TypeDefKind, TypeId, WasmImport, WorldId,
    WorldItem, WorldKey,
};

/// How names of preview 2 are written in a core module.
pub(crate) const MANGLING: ManglingAndAbi = ManglingAndAbi::Standard32;

/// What the next parameter or two mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A descriptor of preview 1.
    Descriptor,
    /// A handle of preview 2, by the number of its resource.
    Handle(usize),
    /// A path: place and length.
    Path,
    /// Bytes: place and length.
    Bytes,
    /// A list of buffers: place and count.
    Buffers,
    /// A list of handles: place and count.
    Handles(usize),
    /// A list of subscriptions to poll, and where their events go: two places and a count.
    Poll,
    /// Where a descriptor is written to.
    NewDescriptor,
    /// Where anything else is written to.
    Result,
    /// Flags, or one of so many.
    Small(u32),
    /// What is to be done with what is opened.
    Opening,
    /// What a descriptor may be used for.
    Rights,
    /// Bytes that are wanted.
    Length,
    /// An offset, length or time of 64 bits.
    Long,
    /// The same in 32 bits.
    Short,
}

/// What a call leaves that later ones can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yield {
    /// Nothing.
    Nothing,
    /// A handle, as its result.
    Direct(usize),
    /// A handle at this distance from where its result lies, if all bytes before it are these.
    At(usize, u32, &'static [(u32, u8)]),
    /// A list whose first item begins with a handle.
    Listed(usize),
    /// None: the handle that it was given is gone.
    Dropped,
}

/// A function of the host.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) meanings: Vec<Meaning>,
    pub(crate) params: Vec<WasmType>,
    pub(crate) results: Vec<WasmType>,
    pub(crate) yields: Yield,
}

/// Preview 2, each package after those that it uses.
const DEFINITIONS: [(&str, &str); 6] = [
    ("io.wit", include_str!("../../wit/deps/io.wit")),
    ("clocks.wit", include_str!("../../wit/deps/clocks.wit")),
    ("random.wit", include_str!("../../wit/deps/random.wit")),
    ("filesystem.wit", include_str!("../../wit/deps/filesystem.wit")),
    ("cli.wit", include_str!("../../wit/deps/cli.wit")),
    ("world.wit", include_str!("../../wit/world.wit")),
];

/// Preview 1, parameter by parameter: [`meaning`] has the words.
const PREVIEW1: &str = "
    args_get to to
    args_sizes_get to to
    environ_get to to
    environ_sizes_get to to
    clock_res_get small to
    clock_time_get small long to
    fd_advise fd long long small
    fd_allocate fd long long
    fd_close fd
    fd_datasync fd
    fd_fdstat_get fd to
    fd_fdstat_set_flags fd small
    fd_fdstat_set_rights fd rights rights
    fd_filestat_get fd to
    fd_filestat_set_size fd long
    fd_filestat_set_times fd long long small
    fd_pread fd buffers long to
    fd_prestat_get fd to
    fd_prestat_dir_name fd bytes
    fd_pwrite fd buffers long to
    fd_read fd buffers to
    fd_readdir fd bytes long to
    fd_renumber fd fd
    fd_seek fd long small to
    fd_sync fd
    fd_tell fd to
    fd_write fd buffers to
    path_create_directory fd path
    path_filestat_get fd small path to
    path_filestat_set_times fd small path long long small
    path_link fd small path fd path
    path_open fd small path opening rights rights small new
    path_readlink fd path bytes to
    path_remove_directory fd path
    path_rename fd path fd path
    path_symlink path fd path
    path_unlink_file fd path
    poll_oneoff poll to
    proc_raise short
    sched_yield
    random_get bytes
    sock_accept fd small to
    sock_recv fd buffers small to to
    sock_send fd buffers small to
    sock_shutdown fd small";

/// Every function of preview 1 but `proc_exit`.
pub(crate) fn preview1() -> Vec<Import> {
    PREVIEW1.trim().lines().map(preview1_function).collect()
}

fn preview1_function(line: &str) -> Import {
    let mut words = line.split_whitespace();
    let name = words.next().expect("a name").to_owned();
    let meanings: Vec<_> = words.map(meaning).collect();
    let params = meanings.iter().flat_map(|meaning| meaning.params()).copied().collect();
    let (module, results) = ("wasi_snapshot_preview1".to_owned(), vec![WasmType::I32]);
    Import { module, name, meanings, params, results, yields: Yield::Nothing }
}

fn meaning(word: &str) -> Meaning {
    match word {
        "fd" => Meaning::Descriptor,
        "path" => Meaning::Path,
        "bytes" => Meaning::Bytes,
        "buffers" => Meaning::Buffers,
        "poll" => Meaning::Poll,
        "new" => Meaning::NewDescriptor,
        "to" => Meaning::Result,
        "small" => Meaning::Small(16),
        "opening" => Meaning::Opening,
        "rights" => Meaning::Rights,
        "long" => Meaning::Long,
        "short" => Meaning::Short,
        other => panic!("{other} means nothing"),
    }
}

impl Meaning {
    pub(crate) fn params(self) -> &'static [WasmType] {
        match self {
            Meaning::Long | Meaning::Rights | Meaning::Length => &[WasmType::I64],
            Meaning::Path | Meaning::Bytes | Meaning::Buffers | Meaning::Handles(_) => &[WasmType::I32; 2],
            Meaning::Poll => &[WasmType::I32; 3],
            _ => &[WasmType::I32],
        }
    }
}

/// Preview 2: the definitions of its interfaces, and a world that imports them all.
pub(crate) struct Preview2 {
    pub(crate) resolve: Resolve,
    pub(crate) world: WorldId,
    /// Every resource, in the order of its number.
    resources: Vec<TypeId>,
}

impl Preview2 {
    /// From the definitions that stand beside the tests.
    pub(crate) fn new() -> Self {
        let mut resolve = Resolve::default();
        let packages = DEFINITIONS.map(|(name, text)| resolve.push_str(name, text).expect("definitions"));
        let world = resolve.select_world(&packages[5..], Some("everything")).expect("a world");
        Self { resolve, world, resources: Vec::new() }
    }

    /// Every function but those that exit, dropping of handles included.
    pub(crate) fn functions(&mut self) -> Vec<Import> {
        let imports = self.resolve.worlds[self.world].imports.clone();
        let mut functions = Vec::new();
        for (key, import) in &imports {
            let WorldItem::Interface { id, .. } = import else { continue };
            let interface = self.resolve.interfaces[*id].clone();
            if interface.name.as_deref() == Some("exit") {
                continue;
            }
            functions.extend(interface.functions.values().map(|function| self.function(key, function)));
            functions.extend(interface.types.values().filter_map(|id| self.drop(key, *id)));
        }
        functions
    }

    fn function(&mut self, key: &WorldKey, function: &Function) -> Import {
        let signature = self.resolve.wasm_signature(MANGLING.import_variant(), function);
        let import = WasmImport::Func { interface: Some(key), func: function };
        let (module, name) = self.resolve.wasm_import_name(MANGLING, import);
        let mut meanings: Vec<_> =
            function.params.iter().flat_map(|parameter| self.meanings(&parameter.name, parameter.ty)).collect();
        if signature.retptr {
            meanings.push(Meaning::Result);
        }
        let yields = function.result.map_or(Yield::Nothing, |ty| self.yields(ty));
        Import { module, name, meanings, params: signature.params, results: signature.results, yields }
    }

    fn drop(&mut self, key: &WorldKey, id: TypeId) -> Option<Import> {
        let TypeDefKind::Resource = self.resolve.types[id].kind else { return None };
        let intrinsic = ResourceIntrinsic::ImportedDrop;
        let import = WasmImport::ResourceIntrinsic { interface: Some(key), resource: id, intrinsic };
        let (module, name) = self.resolve.wasm_import_name(MANGLING, import);
        let (meanings, params) = (vec![Meaning::Handle(self.number(id))], vec![WasmType::I32]);
        Some(Import { module, name, meanings, params, results: vec![], yields: Yield::Dropped })
    }

    fn number(&mut self, resource: TypeId) -> usize {
        let resource = self.behind(resource);
        self.resources.iter().position(|known| *known == resource).unwrap_or_else(|| {
            self.resources.push(resource);
            self.resources.len() - 1
        })
    }

    /// The type that a name of it stands for.
    fn behind(&self, mut id: TypeId) -> TypeId {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        id
    }

    fn kind(&self, ty: Type) -> Option<TypeDefKind> {
        let Type::Id(id) = ty else { return None };
        match &self.resolve.types[self.behind(id)].kind {
            TypeDefKind::Type(ty) => self.kind(*ty),
            kind => Some(kind.clone()),
        }
    }

    fn primitive(&self, ty: Type) -> Option<Type> {
        match ty {
            Type::Id(id) => match self.resolve.types[self.behind(id)].kind {
                TypeDefKind::Type(ty) => Some(ty),
                _ => None,
            },
            primitive => Some(primitive),
        }
    }

    /// What the flat parameters mean that a parameter becomes.
    fn meanings(&mut self, name: &str, ty: Type) -> Vec<Meaning> {
        match (self.primitive(ty), self.kind(ty)) {
            (Some(Type::U64), _) if name == "len" => vec![Meaning::Length],
            (Some(Type::String), _) => vec![Meaning::Path],
            (Some(Type::U64), _) => vec![Meaning::Long],
            (Some(_), _) => vec![Meaning::Short],
            (_, Some(TypeDefKind::Handle(handle))) => vec![Meaning::Handle(self.resource(handle))],
            (_, Some(TypeDefKind::List(item))) => match self.kind(item) {
                Some(TypeDefKind::Handle(handle)) => vec![Meaning::Handles(self.resource(handle))],
                _ => vec![Meaning::Bytes],
            },
            (_, Some(TypeDefKind::Flags(_))) if name == "open-flags" => vec![Meaning::Opening],
            (_, Some(TypeDefKind::Flags(flags))) => vec![Meaning::Small(1 << flags.flags.len())],
            (_, Some(TypeDefKind::Enum(cases))) => vec![Meaning::Small(number(cases.cases.len()))],
            // The one variant that is a parameter: which, seconds, nanoseconds.
            (_, Some(TypeDefKind::Variant(variant))) => {
                vec![Meaning::Small(number(variant.cases.len())), Meaning::Long, Meaning::Short]
            }
            (_, other) => panic!("no parameter is {other:?}"),
        }
    }

    fn yields(&mut self, ty: Type) -> Yield {
        match self.kind(ty) {
            Some(TypeDefKind::Handle(handle)) => Yield::Direct(self.resource(handle)),
            Some(TypeDefKind::Result(result)) => self.yields_of_result(result.ok, result.err),
            Some(TypeDefKind::List(item)) => match self.kind(item) {
                Some(TypeDefKind::Tuple(tuple)) => match self.kind(tuple.types[0]) {
                    Some(TypeDefKind::Handle(handle)) => Yield::Listed(self.resource(handle)),
                    _ => Yield::Nothing,
                },
                _ => Yield::Nothing,
            },
            _ => Yield::Nothing,
        }
    }

    fn yields_of_result(&mut self, ok: Option<Type>, error: Option<Type>) -> Yield {
        if let Some(TypeDefKind::Handle(handle)) = ok.and_then(|ok| self.kind(ok)) {
            return Yield::At(self.resource(handle), 4, &[(0, 0)]);
        }
        let Some(TypeDefKind::Variant(variant)) = error.and_then(|error| self.kind(error)) else {
            return Yield::Nothing;
        };
        let Some(TypeDefKind::Handle(handle)) = variant.cases[0].ty.and_then(|ty| self.kind(ty)) else {
            return Yield::Nothing;
        };
        // What the result holds begins where its widest case is aligned.
        match ok.and_then(|ok| self.primitive(ok)) {
            Some(Type::U64) => Yield::At(self.resource(handle), 12, &[(0, 1), (8, 0)]),
            _ => Yield::At(self.resource(handle), 8, &[(0, 1), (4, 0)]),
        }
    }

    fn resource(&mut self, handle: Handle) -> usize {
        let (Handle::Own(id) | Handle::Borrow(id)) = handle;
        self.number(id)
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("few cases")
}
