//! What the file that a URL gives is called.

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// The name of a file whose URL has none.
const NAMELESS: &str = "download";
/// The longest name, in bytes: what disks allow.
const MAX_BYTES: usize = 255;

/// The name that the server gives the file, or else the last part of the URL's path.
pub(super) fn file_name(url: &Url, disposition: Option<&str>) -> String {
    let given = disposition.and_then(given_name).as_deref().and_then(plain);
    let last = || {
        let last = url.path_segments()?.next_back()?;
        plain(&percent_decode_str(last).decode_utf8_lossy())
    };
    given.or_else(last).unwrap_or_else(|| NAMELESS.to_owned())
}

/// The `filename` of a `Content-Disposition`; the form that tells its encoding wins, by RFC 6266.
fn given_name(disposition: &str) -> Option<String> {
    let mut plain = None;
    for parameter in parameters(disposition) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let (_, encoded) = value.split_once('\'')?.1.split_once('\'')?;
                return Some(percent_decode_str(encoded).decode_utf8_lossy().into_owned());
            }
            "filename" => plain = Some(unquoted(value)),
            _ => {}
        }
    }
    plain
}

/// What stands between semicolons that no quotes hold together.
fn parameters(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let divides = c == ';' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        divides
    })
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

/// A name that stays in its folder, on any disk; none if nothing is left of it.
fn plain(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut plain: String = last.chars().filter(|c| !c.is_control()).collect();
    while plain.len() > MAX_BYTES {
        plain.pop();
    }
    let plain = plain.trim();
    (!matches!(plain, "" | "." | "..")).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_called_as_its_url_or_its_server_says() {
        let table = [
            ("http://h/a/b.csv", None, "b.csv"),
            ("http://h/a/b.csv?token=1#x", None, "b.csv"),
            ("http://h/a%20b.txt", None, "a b.txt"),
            ("http://h/", None, NAMELESS),
            ("http://h", None, NAMELESS),
            ("http://h/folder/", None, NAMELESS),
            ("http://h/..%2f..%2fetc%2fpasswd", None, "passwd"),
            ("http://h/%2e%2e%5c%2e%2e", None, NAMELESS),
            ("http://h/a%00b%0A", None, "ab"),
            ("http://h/x", Some("attachment; filename=\"report; final.csv\""), "report; final.csv"),
            ("http://h/x", Some("attachment; filename=plain.csv"), "plain.csv"),
            ("http://h/x", Some("attachment; filename=a.csv; filename*=UTF-8''%e2%82%ac.csv"), "€.csv"),
            ("http://h/x", Some("attachment; filename=\"../../.ssh/id\""), "id"),
            ("http://h/x", Some("attachment; filename=\"a\\\"b\""), "a\"b"),
            ("http://h/x", Some("attachment; filename=\"..\""), "x"),
            ("http://h/x", Some("inline"), "x"),
        ];
        for (url, disposition, expected) in table {
            assert_eq!(file_name(&Url::parse(url).unwrap(), disposition), expected, "{url} {disposition:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_part_of_a_path(text in "\\PC{0,40}", path in "[a./%5Cc2f]{0,20}") {
            let url = Url::parse(&format!("http://h/{path}")).unwrap();
            let name = file_name(&url, Some(&format!("attachment; filename=\"{text}\"")));
            prop_assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= MAX_BYTES);
            prop_assert!(!name.contains('/') && !name.chars().any(char::is_control));
        }
    }
}
