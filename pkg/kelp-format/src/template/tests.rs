//! Templates and what they print, as Go prints it.

use serde_json::json;

use super::*;

fn run(template: &str) -> Result<String, Error> {
    let value = json!({
        "ID": "0123456789abcdef", "Names": ["web", "www"], "Running": true, "Pid": 42,
        "State": {"Status": "running", "ExitCode": 0}, "Labels": {"b": "2", "a": "1"},
        "Size": 1.5, "Empty": "", "None": null,
    });
    Template::parse(template)?.execute(&value)
}

#[test]
fn templates_print_as_in_go() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.ID}}", "0123456789abcdef"),
        ("{{ .State.Status }}/{{.State.ExitCode}}", "running/0"),
        ("{{.Names}} {{.Labels}}", "[web www] map[a:1 b:2]"),
        ("{{json .Names}}", "[\"web\",\"www\"]"),
        ("{{.Names | json}}", "[\"web\",\"www\"]"),
        ("{{join .Names \",\"}}", "web,www"),
        ("{{upper .State.Status}}{{lower \"ABC\"}}", "RUNNINGabc"),
        ("{{range .Names}}<{{.}}>{{end}}", "<web><www>"),
        (
            "{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}",
            "0=web;1=www;",
        ),
        ("{{range $k, $v := .Labels}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range .Empty | split \",\"}}x{{else}}none{{end}}", "x"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        (
            "{{if eq .Pid 1}}one{{else if gt .Pid 41}}many{{else}}few{{end}}",
            "many",
        ),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .None}}x{{else}}none{{end}}", "none"),
        ("{{index .Labels \"a\"}}{{index .Names 1}}", "1www"),
        ("{{index .Labels \"zz\"}}", ""),
        ("{{len .Names}}", "2"),
        (
            "{{printf \"%-5s|%5d|%q|%.2f\" .State.Status .Pid \"x\" .Size}}",
            "running|   42|\"x\"|1.50",
        ),
        ("{{slice .ID 0 12}}", "0123456789ab"),
        ("{{truncate .ID 4}}", "0123"),
        ("{{- /* comment */ -}}a {{- \"b\" -}} c", "abc"),
        ("{{$x := .Pid}}{{$x}}{{$x = 7}}{{$x}}", "427"),
        (
            "{{and .Running .Pid}} {{or .Empty \"e\"}} {{not .Running}}",
            "42 e false",
        ),
        ("{{eq .Pid 41 42}}", "true"),
        ("{{(index .Names 0) | title}}", "Web"),
        ("{{println .Pid}}", "42\n"),
        ("{{.None}}", "<no value>"),
        (
            "{{range .Names}}{{if eq . \"web\"}}{{continue}}{{end}}{{.}}{{end}}",
            "www",
        ),
        ("{{range .Names}}{{.}}{{break}}{{end}}", "web"),
        ("{{`raw \"text\"`}}", "raw \"text\""),
        ("{{$.Pid}}", "42"),
        ("{{range .Names}}{{$.Pid}}{{end}}", "4242"),
        (
            "{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Pid}}{{template \"x\" 1}}",
            "<42><1>",
        ),
        ("{{block \"b\" .State}}{{.Status}}{{end}}", "running"),
        (
            "{{define \"x\"}}{{$.Status}}{{end}}{{template \"x\" .State}}",
            "running",
        ),
        ("{{/* it's }} */}}x", "x"),
        ("{{.Labels.a}} {{.Labels.zz}}", "1 <no value>"),
        (
            "{{js \"a'<\"}} {{urlquery \"a b/c\"}} {{html \"<\"}}",
            "a\\'\\u003C a+b%2Fc &lt;",
        ),
        (
            "{{printf \"%x %X %t %c|%6.2f|%03d\" 255 255 true 65 .Size 7}}",
            "ff FF true A|  1.50|007",
        ),
        ("{{printf \"%d %s\" \"x\" 3}}", "%!d(string=x) %!s(int=3)"),
        ("{{printf \"%d\" 1 2}}", "1%!(EXTRA int=2)"),
        ("{{len .Labels}}{{len .ID}}", "216"),
    ] {
        assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (template, said) in [
        ("{{.Missing}}", "can't evaluate field Missing"),
        ("{{.ID", "unclosed action"),
        ("{{if .ID}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{nosuch .ID}}", "function \"nosuch\" not defined"),
        ("{{(.ID}}", "unclosed left paren"),
        ("{{\"x}}", "unclosed action"),
        ("{{index .Names 9}}", "out of range"),
        ("{{}}", "missing value"),
        ("{{$y}}", "undefined variable"),
        ("{{template \"x\"}}", "template \"x\" not defined"),
        (
            "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}",
            "too deeply",
        ),
        ("{{define \"x\"}}", "expected end"),
        ("{{template x}}", "in quotes"),
    ] {
        let error = run(template).unwrap_err().to_string();
        assert!(error.contains(said), "{template}: {error}");
    }
}

#[test]
fn no_template_panics() {
    let pieces = [
        "{{", "}}", ".", "ID", "$", "x", ":=", "|", "(", ")", "\"", "`", " ", "if", "range", "end",
        "else", "with", "-", "9", "printf", "%d", "define", "template", "block", "/*", "*/",
        "break", "slice", ",", "=", "\\", "é", "index", "0",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        let mut text = String::from("{{");
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(pieces[(state % pieces.len() as u64) as usize]);
        }
        let _ = run(&text);
        let _ = run(&(text + "}}"));
    }
}
