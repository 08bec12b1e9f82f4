//! QR codes on a terminal: two modules in a character, by half blocks.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::output::{self, Format};

/// Black on white, whatever the terminal's own colours are.
const COLOURS: (&str, &str) = ("\u{1b}[30;107m", "\u{1b}[0m");

/// Prints `text` as a QR code.
pub(super) fn print(format: Format, text: &str) -> Result<()> {
    if format != Format::Table {
        bail!("--qr is for people: leave out --qr or --format");
    }
    let (on, off) = if io::stdout().is_terminal() { COLOURS } else { ("", "") };
    let code = code(text)?;
    let lines: Vec<String> = code.lines().map(|line| format!("{on}{line}{off}")).collect();
    output::print(&lines.join("\n"))
}

/// The code of `text`, with the empty edge that scanners need.
fn code(text: &str) -> Result<String> {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else {
        bail!("the ticket has {} characters, which is too much for a QR code: leave out --qr", text.len());
    };
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_a_square_with_an_empty_edge() {
        let code = code(&format!("shoal1{}", "a".repeat(300))).unwrap();
        let lines: Vec<&str> = code.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width) && lines.len() == width.div_ceil(2));
        assert!(lines[0].chars().all(|c| c == ' '), "{:?}", lines[0]);
        assert!(code.chars().all(|c| " █▀▄\n".contains(c)));
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let error = code(&"a".repeat(3_000)).unwrap_err().to_string();
        assert!(error.contains("3000 characters") && error.contains("leave out --qr"), "{error}");
    }
}
