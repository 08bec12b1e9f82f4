//! Text within its bounds.

/// Stands for what was cut out.
const GAP: &str = " … ";

/// As much of the beginning as fits into `limit` bytes.
pub fn beginning(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The beginning and the end, as much as fits into `limit` bytes: an error begins with the thing and ends with the
/// remedy, and what is long is the address between them.
pub fn ends(text: &str, limit: usize) -> String {
    if text.len() <= limit || limit < GAP.len() {
        return beginning(text, limit).to_owned();
    }
    let half = (limit - GAP.len()) / 2;
    let tail = text.ceil_char_boundary(text.len() - half);
    format!("{}{GAP}{}", beginning(text, half), &text[tail..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_long_keeps_its_thing_and_its_remedy() {
        let error = format!("cannot read https://example.com/{}: 404; check the address", "a".repeat(2_000));
        let told = ends(&error, 100);
        assert!(told.starts_with("cannot read https://example.com/"), "{told}");
        assert!(told.ends_with(": 404; check the address"), "{told}");
        assert_eq!(ends("short", 5), "short");
    }

    proptest! {
        #[test]
        fn it_fits_and_is_cut_between_characters(text in ".{0,80}", limit in 0_usize..100) {
            prop_assert!(ends(&text, limit).len() <= limit);
            prop_assert!(text.starts_with(beginning(&text, limit)) && beginning(&text, limit).len() <= limit);
        }
    }
}
