//! What is wrong with a job, said so that its author can mend it.

use std::fmt;

/// Problems that one report lists; more are counted.
const MAX_LISTED: usize = 30;
/// Characters of a hostile text that a message repeats.
const MAX_QUOTED: usize = 60;

/// One thing that is wrong with a job, or that was ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a field from the top, such as `Job.Tasks[0].Engine.Params.Image`.
    pub path: String,
    /// What is wrong, as the end of a sentence about the field.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong with a job.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// A problem with the field at `path`.
    pub fn new(path: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl Problems {
    pub(crate) fn push(&mut self, path: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem::new(path, reason, remedy));
    }

    /// Nothing, or all problems as an error.
    pub(crate) fn into_result(self) -> Result<(), Problems> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.rsplit_once('.') {
            Some((parent, name)) => write!(f, "field '{name}' in '{parent}' {}", self.reason)?,
            None => write!(f, "{} {}", self.path, self.reason)?,
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (listed, rest) = self.0.split_at(self.0.len().min(MAX_LISTED));
        if let [one] = listed {
            return write!(f, "{one}");
        }
        write!(f, "{} problems:", self.0.len())?;
        listed.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))?;
        if rest.is_empty() { Ok(()) } else { write!(f, "\n  - and {} more", rest.len()) }
    }
}

/// The known word that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const CLOSE: f64 = 0.75;
    // The distance takes quadratic time, and nothing that long is a slip of the hand.
    if word.len() > MAX_QUOTED {
        return None;
    }
    let word = word.to_lowercase();
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(&word, &known.to_lowercase()), known));
    scored.filter(|(score, _)| *score >= CLOSE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// A text as a message may repeat it: short and on one line.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("'{short}'")
}
