//! Every example's job file on a mesh: verified, with the result that stands beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Mesh, example, text};

/// Runs an example's job and compares what it leaves.
pub fn runs_as_expected(mesh: &Mesh, name: &str, job: &str) {
    runs_as_expected_with(mesh, name, &[job]);
}

/// The same, with more arguments.
pub fn runs_as_expected_with(mesh: &Mesh, name: &str, arguments: &[&str]) {
    let got = mesh.dir.path().join("got");
    let run = ["--format", "json", "job", "run", "--download", got.to_str().unwrap()];
    let run = mesh.nodes[0].run(&[&run[..], arguments].concat());
    let described: Value =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&run)));
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Verified"], true, "{described:#}");
    assert_eq!(files(&got), files(Path::new(&example(&format!("{name}/expected")))), "{name}");
    std::fs::remove_dir_all(got).unwrap();
}

/// Every file below a folder.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(self::files(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn every_example_is_verified_by_a_mesh() {
    let mesh = Mesh::start(4);
    for name in ["assemblyscript", "cat", "component", "fails", "import-module", "seam-carving", "wordcount"] {
        runs_as_expected(&mesh, name, &example(&format!("{name}/job.yaml")));
    }
}

#[test]
fn an_import_module_in_the_old_spelling_gives_the_same() {
    let mesh = Mesh::start(4);
    runs_as_expected(&mesh, "import-module", &example("import-module/job-old.yaml"));
}

#[test]
fn the_csv_example_makes_its_data_as_its_job_file_says() {
    let mesh = Mesh::start(4);
    let copied = |file: &str| {
        let copy = mesh.dir.path().join(file);
        std::fs::copy(example(&format!("csv/{file}")), &copy).unwrap();
        copy.to_str().unwrap().to_owned()
    };
    let (job, module) = (copied("job.yaml"), copied("csv.wasm"));
    let text_of_job = std::fs::read_to_string(&job).unwrap();
    assert!(text_of_job.contains("csv.wasm generate /data/orders.csv 1300000"), "the command has changed");
    let data = mesh.dir.path().join("generated");
    let generate = ["wasm", "run", "--executions", "1", "--output", "data:/data", "--download", data.to_str().unwrap()];
    let generate = mesh.nodes[0].run(&[&generate[..], &[&module, "generate", "/data/orders.csv", "1300000"]].concat());
    assert!(generate.status.success(), "{}", text(&generate));
    assert!(std::fs::metadata(data.join("data/orders.csv")).unwrap().len() >= 50 << 20);
    runs_as_expected(&mesh, "csv", &job);
}

#[test]
fn the_blob_example_reads_what_another_node_has_added() {
    let mesh = Mesh::start(4);
    let added = mesh.nodes[1].json(&["blob", "add", &example("url-input/served")]);
    let hash = format!("hash={}", added["Hash"].as_str().unwrap());
    runs_as_expected_with(&mesh, "blob-input", &[&example("blob-input/job.yaml"), "-V", &hash]);
}
