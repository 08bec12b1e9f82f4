//! Counts the words of every file below `/inputs` and writes a table, the commonest word first, ties by word.
//!
//! A word is a run of letters, with apostrophes inside it; case does not matter.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

const INPUTS: &str = "/inputs";
const TABLE: &str = "/outputs/counts.tsv";
/// How many of the commonest words are printed.
const SHOWN: usize = 10;

fn main() -> io::Result<()> {
    let mut counts = BTreeMap::new();
    let files = count_below(Path::new(INPUTS), &mut counts)?;
    let mut table: Vec<(String, u64)> = counts.into_iter().collect();
    table.sort_by(|(word_a, a), (word_b, b)| b.cmp(a).then_with(|| word_a.cmp(word_b)));
    write(&table)?;
    let words: u64 = table.iter().map(|(_, count)| count).sum();
    println!("{} words, {} of them different, in {} file(s)", words, table.len(), files);
    for (word, count) in table.iter().take(SHOWN) {
        println!("{:>8}  {}", count, word);
    }
    Ok(())
}

fn count_below(folder: &Path, counts: &mut BTreeMap<String, u64>) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files += count_below(&path, counts)?;
        } else {
            count(&String::from_utf8_lossy(&fs::read(&path)?), counts);
            files += 1;
        }
    }
    Ok(files)
}

fn count(text: &str, counts: &mut BTreeMap<String, u64>) {
    for run in text.split(|letter: char| !letter.is_alphabetic() && letter != '\'') {
        let word = run.trim_matches('\'');
        if !word.is_empty() {
            *counts.entry(word.to_lowercase()).or_insert(0) += 1;
        }
    }
}

fn write(table: &[(String, u64)]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(TABLE)?);
    for (word, count) in table {
        writeln!(file, "{}\t{}", word, count)?;
    }
    file.flush()
}
