//! What a node keeps on its disk, for how long, and what makes way.

use serde_json::Value;

use crate::support::{Daemon, refused, text, until};

/// A node alone in a directory of its own.
struct Home {
    node: Daemon,
    dir: tempfile::TempDir,
}

impl Home {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let node = Daemon::start(&dir.path().join("node"), options);
        Self { node, dir }
    }

    /// Writes a file and returns its path.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Adds a file or folder and returns its hash.
    fn add(&self, path: &str, flags: &[&str]) -> String {
        let blob = self.node.json(&[&["blob", "add", path], flags].concat());
        blob["Hash"].as_str().unwrap().to_owned()
    }

    /// The pins of a blob; none if it is not here.
    fn pins(&self, hash: &str) -> Option<Vec<Value>> {
        let blobs = self.node.json(&["blob", "list"]);
        let blob = blobs.as_array().unwrap().iter().find(|blob| blob["Hash"] == hash)?.clone();
        Some(blob["Pins"].as_array().unwrap().clone())
    }

    fn gc(&self) {
        let output = self.node.run(&["blob", "gc"]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn what_is_pinned_for_a_while_stays_that_long_and_across_a_restart() {
    let mut home = Home::start(&[]);
    let week = home.add(&home.file("week", "for a week"), &["--for", "7d"]);
    let second = home.add(&home.file("second", "for a second"), &["--for", "1s"]);
    home.node = home.node.restart();

    until("the short pin has ended", || home.pins(&second).is_none_or(|pins| pins.is_empty()).then_some(()));
    home.gc();
    assert_eq!(home.pins(&second), None);
    let pins = home.pins(&week).expect("it stays");
    assert!(pins[0]["Until"].as_str().is_some_and(|until| until.ends_with('Z')), "{pins:?}");

    let wrong = home.node.run(&["blob", "pin", &week, "--for", "a week"]);
    refused(&wrong, &["--for", "a week"]);
}
