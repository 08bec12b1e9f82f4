//! Go's `text/template`, as far as job files use it: `{{.name}}`, `{{or (index . "name") "default"}}`, `if`,
//! `with`, `range`, variables, pipes, comparisons, `printf`, and the trim marks `{{-` and `-}}`.
//!
//! Variables are texts. A missing one is an error with `{{.name}}` and empty with `{{index . "name"}}`, as in
//! Bacalhau. Work, depth and output are bounded, so a hostile file ends in an error.

mod eval;
mod lex;
mod tree;

use std::collections::BTreeMap;

use crate::job::parse::MAX_SPEC_BYTES;

/// Steps that rendering one template may take.
pub const MAX_STEPS: usize = 100_000;
/// Nesting of blocks and parentheses in one template.
pub const MAX_DEPTH: usize = 32;

/// Why a template cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template line {line}: {message}")]
pub struct TemplateError {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong there, and what to do.
    pub message: String,
}

/// Fills `vars` into the template `text`. Text without `{{` comes out as it went in.
pub fn render(text: &str, vars: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    if text.len() > MAX_SPEC_BYTES {
        return Err(TemplateError { line: 1, message: format!("the file is larger than {MAX_SPEC_BYTES} bytes") });
    }
    let tree = tree::parse(lex::pieces(text)?)?;
    eval::render(&tree, vars)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vars() -> BTreeMap<String, String> {
        let pairs = [("count", "3"), ("name", "shoal"), ("empty", ""), ("region", "eu")];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn templates_render_as_in_go() {
        let table = [
            ("plain: text", "plain: text"),
            ("count: {{.count}}", "count: 3"),
            ("{{ .name }}-{{ .region }}", "shoal-eu"),
            (r#"{{or (index . "missing") "fallback"}}"#, "fallback"),
            (r#"{{or (index . "region") "fallback"}}"#, "eu"),
            (r#"{{ or .empty .name "x" }}"#, "shoal"),
            (r#"{{ and .name .region }}"#, "eu"),
            (r#"{{ index . "missing" }}|"#, "|"),
            (r#"{{ index . "missing" | default "d" }}"#, "d"),
            (r#"{{ default "d" .name }}"#, "shoal"),
            ("{{if .empty}}yes{{else}}no{{end}}", "no"),
            ("{{if not .empty}}yes{{end}}", "yes"),
            (r#"{{if eq .region "us"}}a{{else if eq .region "asia" "eu"}}b{{else}}c{{end}}"#, "b"),
            (r#"{{if ne .region "us"}}other{{end}}"#, "other"),
            (r#"{{if and (eq .region "eu") (ne .count "4")}}both{{end}}"#, "both"),
            ("a {{- .count -}}  b", "a3b"),
            ("x\n  {{- /* a comment */ -}}\n  y", "xy"),
            ("{{/* c */}}z", "z"),
            ("{{range $key, $value := .}}{{$key}}={{$value}};{{end}}", "count=3;empty=;name=shoal;region=eu;"),
            ("{{range .}}[{{.}}]{{end}}", "[3][][shoal][eu]"),
            ("{{range 3}}{{.}},{{end}}", "0,1,2,"),
            ("{{range $i := 2}}{{$i}}{{$.name}} {{end}}", "0shoal 1shoal "),
            ("{{range 0}}x{{else}}none{{end}}", "none"),
            (r#"{{$n := "v"}}{{$n}}{{$n = "w"}}{{$n}}"#, "vw"),
            ("{{with .name}}<{{.}}>{{else}}-{{end}}", "<shoal>"),
            ("{{with .empty}}<{{.}}>{{else}}-{{end}}", "-"),
            (r#"{{with $x := .region}}{{$x}}{{end}}"#, "eu"),
            (r#"{{printf "%s-%d-%v-%q-%%-%03d" .name 7 true .region 5}}"#, r#"shoal-7-true-"eu"-%-005"#),
            (r#"{{print .name " " 1 2}}"#, "shoal 1 2"),
            (r#"{{.name | printf "%s!"}}"#, "shoal!"),
            ("{{len .name}}", "5"),
            (r#"{{len .}}"#, "4"),
            (r#"{{if lt 2 3}}less{{end}}"#, "less"),
            (r#"{{if ge (len .name) 5}}long{{end}}"#, "long"),
            ("{{`raw \\n`}}", "raw \\n"),
            (r#"{{"a\"b\n"}}"#, "a\"b\n"),
            ("{{true}} {{-7}} {{nil | not}}", "true -7 true"),
            (r#"{{ (index . "name") }}"#, "shoal"),
            (r#"{{ $.region }}"#, "eu"),
        ];
        for (text, expected) in table {
            assert_eq!(render(text, &vars()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_mistake_names_its_line_and_thing() {
        let table = [
            ("a\nb: {{.missing}}", 2, "no value for '.missing': give it with -V missing=VALUE"),
            ("{{.nme}}", 1, "no value for '.nme': give it with -V nme=VALUE (did you mean '.name'?)"),
            ("x\n\n{{ .name", 3, "'{{' is never closed by '}}'"),
            ("{{if .name}}\nx", 1, "'if' has no '{{end}}'"),
            ("{{end}}", 1, "'end' closes nothing"),
            ("{{else}}", 1, "'else' belongs to nothing"),
            ("{{frobnicate 1}}", 1, "unknown function 'frobnicate'"),
            (r#"{{template "x"}}"#, 1, "'template' is not supported in job files"),
            ("{{.name.first}}", 1, "'.name' is text and has no field 'first'"),
            (r#"{{eq .count 3}}"#, 1, "cannot compare text with a number: write the number in quotes"),
            ("{{$x}}", 1, "no variable '$x'"),
            (r#"{{"open}}"#, 1, "a quote is never closed"),
            ("{{(.name}}", 1, "'(' is never closed"),
            ("{{}}", 1, "nothing between '{{' and '}}'"),
            ("{{range .name}}{{end}}", 1, "'range' needs '.' or a whole number, not text"),
            ("{{index .name 1}}", 1, "'index' looks into '.' by a name in quotes"),
            ("{{eq 1}}", 1, "'eq' needs at least 2 values"),
            ("{{range $a, $b, $c := .}}{{end}}", 1, "unexpected ','"),
        ];
        for (text, line, message) in table {
            let expected = TemplateError { line, message: message.into() };
            assert_eq!(render(text, &vars()), Err(expected), "{text}");
        }
    }

    #[test]
    fn hostile_templates_end_in_an_error() {
        let endless = "{{range 1000000000}}{{end}}";
        let wide = "{{range 90000}}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{end}}";
        let doubling = "{{range 300}}{{range 300}}{{range 300}}x{{end}}{{end}}{{end}}";
        let deep = "{{if 1}}".repeat(1_000);
        let parens = format!("{{{{{}1", "(".repeat(100_000));
        let padded = r#"{{printf "%999999999d" 1}}"#;
        for text in [endless, wide, doubling, &deep, &parens, padded] {
            assert!(render(text, &vars()).is_err(), "{}", &text[..20]);
        }
        let growing = format!("{{{{$x := \"ab\"}}}}{}", r#"{{$x = print $x $x}}"#.repeat(60));
        assert!(render(&growing, &vars()).is_err());
    }

    proptest! {
        #[test]
        fn no_template_panics(text in "(\\{\\{|\\}\\}|-|if|range|end|else|with|index|\\.|\\$x|:=|\"|\\(|\\)|,|\\||[0-9]| |\\PC){0,40}") {
            let _ = render(&text, &vars());
        }

        #[test]
        fn text_without_actions_is_unchanged(text in "[^{]{0,200}") {
            prop_assert_eq!(render(&text, &vars()), Ok(text));
        }
    }
}
