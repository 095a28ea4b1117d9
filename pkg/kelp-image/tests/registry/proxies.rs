//! HTTP_PROXY and its like. Only another process can have other variables, so the test runs itself.

use std::process::Command;

use crate::fixture::Fixture;
use crate::image::TestImage;
use crate::scripted::{Answer, Scripted, serve_image};

const CHILD: &str = "KELP_TEST_HAS_PROXY";

#[test]
fn registries_are_reached_through_a_proxy_and_loopback_is_not() {
    let image = TestImage::new("proxied", "amd64", &[1000]);
    let served = image.clone();
    if std::env::var_os(CHILD).is_some() {
        let fixture = Fixture::new();
        let direct = Scripted::start(move |request| serve_image(&served, request));
        let local = fixture.pull(&format!("{}/x", direct.address));
        assert_eq!(local.unwrap(), image.id());
        assert_eq!(fixture.pull("registry.invalid/x").unwrap(), image.id());
        return;
    }
    // It refuses tunnels, so the insecure registry is asked in the clear.
    let proxy = Scripted::start(move |request| {
        if request.first.starts_with("CONNECT") {
            return Answer::new(403, b"");
        }
        let path = request.target().strip_prefix("http://registry.invalid");
        let mut request = request.clone();
        request.first = format!("GET {} HTTP/1.1", path.expect("a proxy's request"));
        serve_image(&served, &request)
    });
    let url = format!("http://{}", proxy.address);
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "proxies::registries_are_reached_through_a_proxy_and_loopback_is_not",
        ])
        .env(CHILD, "1")
        .env("HTTP_PROXY", &url)
        .env("HTTPS_PROXY", &url)
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    assert_eq!(proxy.requests("CONNECT registry.invalid:443").len(), 1);
    assert_eq!(proxy.requests("/manifests/").len(), 1);
}

#[test]
fn no_proxy_names_what_is_reached_directly() {
    const CHILD: &str = "KELP_TEST_HAS_NO_PROXY";
    if std::env::var_os(CHILD).is_some() {
        let fixture = Fixture::new();
        // Nobody answers there, and the proxy is not asked.
        let error = fixture.pull("registry.invalid/x").unwrap_err();
        assert!(error.to_string().contains("registry.invalid"), "{error}");
        return;
    }
    let proxy = Scripted::start(|_| Answer::new(500, b""));
    let url = format!("http://{}", proxy.address);
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "proxies::no_proxy_names_what_is_reached_directly",
        ])
        .env(CHILD, "1")
        .env("HTTP_PROXY", &url)
        .env("HTTPS_PROXY", &url)
        .env("NO_PROXY", "example.com,.invalid")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    assert!(proxy.requests("").is_empty());
}
