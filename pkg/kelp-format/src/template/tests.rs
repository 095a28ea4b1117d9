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

/// What Go's own text/template printed for the same templates.
#[test]
fn values_and_constants_are_gos() {
    for (template, expected) in [
        (
            "{{print 1 2}}{{print \"a\" 1}}{{print \"a\" \"b\" 1 2 true}}",
            "1 2a1ab1 2 true",
        ),
        ("{{print nil .None}}|{{.None}}", "<nil> <nil>|<no value>"),
        (
            "{{100000.0}} {{1000000.0}} {{1234567.5}}",
            "100000 1e+06 1.2345675e+06",
        ),
        (
            "{{0.0001}} {{0.00001}} {{1e21}} {{-0.5}} {{1.0}}",
            "0.0001 1e-05 1e+21 -0.5 1",
        ),
        (
            "{{0x1F}} {{-0x10}} {{.5}} {{+7}} {{1_0}}",
            "31 -16 0.5 7 10",
        ),
        (
            "{{017}} {{0b101}} {{0o17}} {{1e+3}} {{2.5e-3}}",
            "15 5 15 1000 0.0025",
        ),
        (
            "{{'\u{e9}'}} {{'\\''}} {{'\\x41'}} {{'\\n'}} {{'\\u00e9'}}",
            "233 39 65 10 233",
        ),
        ("{{\"\\u00e9\\x41\\101\\\\\\\"\"}}", "\u{e9}AA\\\""),
        ("{{\"}}\"}}{{'}'}}", "}}125"),
        (
            "{{title \"hello world-wide it's a_b\"}}",
            "Hello World-Wide It'S A_b",
        ),
        ("{{pad \"x\" 2 3}}|{{pad \"\" 2 3}}|", "  x   ||"),
        (
            "{{html \"a\" \"<\" 1}}{{urlquery \"a b\" \"&\"}}",
            "a&lt;1a+b%26",
        ),
        ("{{json 1.0}} {{json .Size}}", "1 1.5"),
        ("{{9007199254740993 | eq 9007199254740992}}", "false"),
    ] {
        assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
    }
}

/// What Go's own fmt printed for the same formats.
#[test]
fn printf_is_gos() {
    for (template, expected) in [
        ("{{printf \"%*d|%-*d|\" 5 .Pid 5 .Pid}}", "   42|42   |"),
        ("{{printf \"%[2]d %[1]d %[2]d\" 1 2}}", "2 1 2"),
        ("{{printf \"%[3]d\" 1 2}}", "%!d(BADINDEX)"),
        ("{{printf \"%q|%U|%c\" 'a' 'a' 'a'}}", "'a'|U+0061|a"),
        (
            "{{printf \"%e|%E|%g|%.3g\" 1234.5 1234.5 1234567.0 1234.5}}",
            "1.234500e+03|1.234500E+03|1.234567e+06|1.23e+03",
        ),
        (
            "{{printf \"% d|% x|%#x|%#o|%O\" 5 \"hi\" 255 8 8}}",
            " 5|68 69|0xff|010|0o10",
        ),
        (
            "{{printf \"%08.3f|%+d|%+v|%.3d\" 0.5 42 42 7}}",
            "0000.500|+42|42|007",
        ),
        ("{{printf \"%08.3d|\" -7}}", "    -007|"),
        (
            "{{printf \"%5s|%-5s|%.2s|%5.1s|\" \"abc\" \"abc\" \"abc\" \"abc\"}}",
            "  abc|abc  |ab|    a|",
        ),
        (
            "{{printf \"%q %v %5s\" .Names .Names .Names}}",
            "[\"web\" \"www\"] [web www] [  web   www]",
        ),
        (
            "{{printf \"%d\" .Names}}",
            "[%!d(string=web) %!d(string=www)]",
        ),
        ("{{printf \"%2s\" .Labels}}", "map[ a: 1  b: 2]"),
        (
            "{{printf \"%v %s %d\" nil nil nil}}",
            "<nil> %!s(<nil>) %!d(<nil>)",
        ),
        ("{{printf \"%d%%|%z|%\" 5 5}}", "5%|%!z(int=5)|%!(NOVERB)"),
        (
            "{{printf \"%q\" \"\\x01\\u00a0\\u00e9\"}}",
            "\"\\x01\\u00a0\u{e9}\"",
        ),
        ("{{printf \"%s\"}}", "%!s(MISSING)"),
    ] {
        assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn blocks_follow_each_other() {
    for (template, expected) in [
        (
            "{{with .Empty}}a{{else with .State}}{{.Status}}{{end}}!",
            "running!",
        ),
        (
            "{{with .Empty}}a{{else with .None}}b{{else}}c{{end}}!",
            "c!",
        ),
        ("{{with .Pid}}a{{else with .State}}b{{end}}!", "a!"),
    ] {
        assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
    }
    for (template, said) in [
        ("{{break}}", "{{break}} outside {{range}}"),
        (
            "{{range .Names}}{{end}}{{continue}}",
            "{{continue}} outside",
        ),
        (
            "{{range .Names}}{{define \"x\"}}{{end}}{{end}}",
            "unexpected {{define}}",
        ),
        (
            "{{range .Names}}{{block \"x\" .}}{{break}}{{end}}{{end}}",
            "{{break}} outside",
        ),
        (
            "{{with 1}}{{else if 1}}{{end}}",
            "unexpected words after else",
        ),
        ("{{block \"x\"}}{{end}}", "missing value for block"),
        ("{{$x, $y := .Names}}", "too many declarations"),
        ("{{nil}}", "nil is not a command"),
        ("{{\"\\q\"}}", "invalid syntax"),
        ("{{\"\\400\"}}", "invalid syntax"),
        ("{{'ab'}}", "malformed character"),
        ("{{''}}", "malformed character"),
        ("{{08}}", "bad number syntax"),
        ("{{1__0}}", "bad number syntax"),
        ("{{9223372036854775808}}", "bad number syntax"),
        ("{{1x}}", "bad number syntax"),
        ("{{\"a\nb\"}}", "unterminated quoted string"),
        ("{{eq .Pid \"42\"}}", "eq: incompatible types"),
        ("{{eq .Pid}}", "missing argument"),
        ("{{and}}", "wrong number of args"),
        ("{{upper \"a\" \"b\"}}", "wrong number of args"),
        ("{{index .Labels 1}}", "must be a string"),
        ("{{slice .ID \"a\"}}", "no index"),
        ("{{join \"a\" \"b\"}}", "no list"),
    ] {
        let error = run(template).unwrap_err().to_string();
        assert!(error.contains(said), "{template}: {error}");
    }
}

#[test]
fn a_label_is_asked_for_by_its_key() {
    for (template, expected) in [
        ("{{.Label \"a\"}}", "1"),
        ("{{.Label \"nosuch\"}}|", "|"),
        ("{{.Label \"a\" | printf \"<%s>\"}}", "<1>"),
    ] {
        assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
    }
    assert!(run("{{.Label}}").is_err());
    assert!(run("{{.State.Label \"a\"}}").is_err());
}

#[test]
fn a_field_has_the_names_that_podman_gives_it() {
    let value = json!({
        "Id": "abc", "Image": "def", "Labels": {"Id": "x"},
        "Mounts": [{"Source": "/a", "Destination": "/b"}],
    });
    let run = |template| Template::parse(template)?.execute(&value);
    for (template, expected) in [
        ("{{.ID}} {{.Id}} {{.ImageID}}", "abc abc def"),
        ("{{range .Mounts}}{{.Src}}:{{.Dst}}{{end}}", "/a:/b"),
        // A map has only its keys.
        ("{{.Labels.ID}}", "<no value>"),
        ("{{json .}}", &value.to_string()),
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
        "break", "slice", ",", "=", "\\", "é", "index", "0", "'", "0x", "e+", "_", "%[2]*.*f",
        "u00",
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
