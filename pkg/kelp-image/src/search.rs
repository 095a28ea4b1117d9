//! Searching registries: docker's index API of version 1 where a registry has it, else the catalog of
//! the distribution API, and the tags of one repository.
//!
//! What a registry says ends at a limit of results, of pages and of bytes, and where the next page is, is
//! taken from it as a path alone: no other server is asked.

use std::collections::BTreeSet;

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::http::Request;
use crate::reference::{DOCKER_HUB, Reference, check_registry};
use crate::refusal::{printable, refusal};
use crate::registry::{find_base, read_document};
use crate::token::Authorizer;

/// Where the docker hub is searched.
const DOCKER_HUB_INDEX: &str = "index.docker.io";

/// The most bytes of one page.
const PAGE_LIMIT: usize = 8 << 20;

/// The most pages of one answer.
const MOST_PAGES: usize = 1000;

/// How many names are asked for at a time.
const PAGE: usize = 1000;

/// An image that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The registry.
    pub registry: String,
    /// Its full name.
    pub name: String,
    /// What it is, as one line; empty where a registry does not tell.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Whether the registry vouches for it.
    pub is_official: bool,
    /// Whether the registry has built it.
    pub is_automated: bool,
}

/// What several registries have, and what those said that could not be searched.
#[derive(Debug, Default)]
pub struct Results {
    /// The images, by registry.
    pub found: Vec<Found>,
    /// Why others are missing.
    pub errors: Vec<Error>,
}

/// Searches the registry that a term begins with, or else those that are configured for names without
/// one; at most `limit` results from each.
pub fn search(term: &str, limit: usize, options: &AccessOptions) -> Result<Results, Error> {
    let access = Access::new(options)?;
    let (registries, term) = match split(term) {
        Some((registry, rest)) => (vec![registry.to_owned()], rest),
        None => (access.registries.search(), term),
    };
    if registries.is_empty() {
        return Err(Error::Invalid(
            "there is no registry to search: put one before the term, or list some as \
             unqualified-search-registries in registries.conf"
                .to_owned(),
        ));
    }
    let runtime = runtime()?;
    let mut results = Results::default();
    for registry in registries {
        match runtime.block_on(search_one(&access, &registry, term, limit)) {
            Ok(found) => results.found.extend(found),
            Err(error) => results.errors.push(error),
        }
    }
    Ok(results)
}

/// The tags of a repository, at most `limit`.
pub fn tags(
    reference: &Reference,
    limit: usize,
    options: &AccessOptions,
) -> Result<Vec<String>, Error> {
    let access = Access::new(options)?;
    let server = Server::new(&access, reference.registry(), &reference.name());
    let path = format!("{}/tags/list?n={}", reference.repository(), limit.min(PAGE));
    let what = format!("listing the tags of {}", reference.name());
    let take = |bytes: &[u8]| -> serde_json::Result<Vec<String>> {
        let page: TagPage = serde_json::from_slice(bytes)?;
        Ok(page.tags.unwrap_or_default())
    };
    runtime()?.block_on(server.pages(&path, &what, limit, &take))
}

/// The registry that a term begins with, and the rest. It is one as in an image's name: with a dot, a
/// port, or the name localhost.
fn split(term: &str) -> Option<(&str, &str)> {
    let (registry, rest) = term.split_once('/')?;
    let is_registry = registry.contains(['.', ':']) || registry == "localhost";
    (is_registry && check_registry(registry).is_ok()).then_some((registry, rest))
}

async fn search_one(
    access: &Access,
    registry: &str,
    term: &str,
    limit: usize,
) -> Result<Vec<Found>, Error> {
    let server = Server::new(access, registry, registry);
    if !term.is_empty()
        && let Some(found) = server.index(term, limit).await?
    {
        return Ok(found);
    }
    if registry == DOCKER_HUB {
        return Err(Error::Invalid(
            "the docker hub lists nothing without a term".to_owned(),
        ));
    }
    let what = format!("searching {registry}");
    let take = |bytes: &[u8]| -> serde_json::Result<Vec<String>> {
        let page: CatalogPage = serde_json::from_slice(bytes)?;
        let fits = |name: &String| name.contains(term);
        Ok(page.repositories.into_iter().filter(fits).collect())
    };
    let path = format!("_catalog?n={PAGE}");
    let names = server.pages(&path, &what, limit, &take).await?;
    let found = names.iter().map(|name| Found {
        registry: registry.to_owned(),
        name: format!("{registry}/{}", printable(name).trim()),
        ..Found::default()
    });
    Ok(found.collect())
}

/// A registry as it is asked.
struct Server<'a> {
    access: &'a Access,
    registry: &'a str,
    insecure: bool,
    authorizer: Authorizer,
}

impl<'a> Server<'a> {
    fn new(access: &'a Access, registry: &'a str, key: &str) -> Self {
        Self {
            access,
            registry,
            insecure: access.is_insecure(registry),
            authorizer: access.authorizer(key),
        }
    }

    /// Searches by docker's API of version 1; `None` where the registry has none.
    async fn index(&self, term: &str, limit: usize) -> Result<Option<Vec<Found>>, Error> {
        let host = match self.registry {
            DOCKER_HUB => DOCKER_HUB_INDEX,
            registry => registry,
        };
        let what = format!("searching {}", self.registry);
        let transport = self.access.transport();
        let mut url = find_base(transport, host, self.insecure).await?;
        url.set_path("/v1/search");
        // The hub finds what it calls library/NAME by NAME alone.
        let term = match self.registry {
            DOCKER_HUB => term.strip_prefix("library/").unwrap_or(term),
            _ => term,
        };
        url.query_pairs_mut()
            .append_pair("q", term)
            .append_pair("n", &limit.to_string());
        let response = self.ask(url).await?;
        match response.status() {
            StatusCode::OK => {}
            status if self.registry == DOCKER_HUB => {
                return Err(refusal(self.registry, &what, status, b"", true));
            }
            _ => return Ok(None),
        }
        let bytes = read_document(response, PAGE_LIMIT, &what).await?;
        // A page for browsers is no answer of that API's.
        let page = match serde_json::from_slice::<IndexPage>(&bytes) {
            Ok(page) => page,
            Err(error) if self.registry == DOCKER_HUB => return Err(Error::json(what)(error)),
            Err(_) => return Ok(None),
        };
        let found = page.results.into_iter().take(limit);
        Ok(Some(found.map(|item| item.found(self.registry)).collect()))
    }

    /// What pages have, up to `limit` of it; `path` is that of the first one behind `/v2/`.
    async fn pages(
        &self,
        path: &str,
        what: &str,
        limit: usize,
        take: &(dyn Fn(&[u8]) -> serde_json::Result<Vec<String>> + Sync),
    ) -> Result<Vec<String>, Error> {
        let base = find_base(self.access.transport(), self.registry, self.insecure).await?;
        let invalid = |error| Error::Invalid(format!("{what}: {error}"));
        let mut url = base.join(path).map_err(invalid)?;
        let (mut items, mut asked) = (Vec::new(), BTreeSet::new());
        while items.len() < limit && asked.len() < MOST_PAGES && asked.insert(url.to_string()) {
            let response = self.ask(url.clone()).await?;
            let status = response.status();
            if status != StatusCode::OK {
                return Err(refusal(self.registry, what, status, b"", true));
            }
            let next = next_page(response.headers(), &url);
            let bytes = read_document(response, PAGE_LIMIT, what).await?;
            items.extend(take(&bytes).map_err(Error::json(what.to_owned()))?);
            match next {
                Some(next) => url = next,
                None => break,
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Asks, and once more with a token where one is wanted.
    async fn ask(&self, url: Url) -> Result<Response, Error> {
        let transport = self.access.transport();
        let mut request = Request {
            insecure: self.insecure,
            ..Request::get(url)
        };
        loop {
            let authorization = self.authorizer.current();
            request.authorization = authorization.header();
            let (response, own) = transport.send(&request).await?;
            let wants = response.status() == StatusCode::UNAUTHORIZED;
            if !(wants && own && request.authorization.is_none()) {
                return Ok(response);
            }
            let headers = response.headers();
            self.authorizer
                .authorize(transport, &request, headers, &authorization)
                .await?;
        }
    }
}

#[derive(Deserialize)]
struct TagPage {
    /// Null where there are none any more.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CatalogPage {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct IndexPage {
    results: Vec<IndexItem>,
}

#[derive(Deserialize)]
struct IndexItem {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

impl IndexItem {
    fn found(self, registry: &str) -> Found {
        let name = printable(&self.name).trim().to_owned();
        let name = match registry {
            DOCKER_HUB if !name.contains('/') => format!("{registry}/library/{name}"),
            _ => format!("{registry}/{name}"),
        };
        Found {
            registry: registry.to_owned(),
            name,
            description: printable(&self.description.unwrap_or_default())
                .trim()
                .to_owned(),
            stars: self.star_count,
            is_official: self.is_official,
            is_automated: self.is_automated,
        }
    }
}

/// Where the next page is: `Link: </v2/_catalog?last=a&n=2>; rel="next"`.
pub(crate) fn next_page(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        let parameter = parameter.trim();
        matches!(parameter, "rel=next" | "rel=\"next\"")
    });
    if !is_next {
        return None;
    }
    let target = url.join(target).ok()?;
    let mut next = url.clone();
    next.set_path(target.path());
    next.set_query(target.query());
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_begin_with_a_registry() {
        for (term, expected) in [
            ("fedora", None),
            ("library/fedora", None),
            ("r.example/fedora", Some(("r.example", "fedora"))),
            ("r.example/", Some(("r.example", ""))),
            ("localhost/a/b", Some(("localhost", "a/b"))),
            ("127.0.0.1:5000/a", Some(("127.0.0.1:5000", "a"))),
        ] {
            assert_eq!(split(term), expected, "{term}");
        }
    }

    #[test]
    fn the_next_page_is_at_the_same_server() {
        let url = Url::parse("https://r.example/v2/_catalog?n=2").unwrap();
        for (link, expected) in [
            (
                "</v2/_catalog?last=b&n=2>; rel=\"next\"",
                Some("https://r.example/v2/_catalog?last=b&n=2"),
            ),
            (
                "<https://evil.example/v2/_catalog?last=b>; rel=\"next\"",
                Some("https://r.example/v2/_catalog?last=b"),
            ),
            ("</v2/_catalog?last=b&n=2>; rel=\"prev\"", None),
            ("nothing", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, link.parse().unwrap());
            let next = next_page(&headers, &url);
            assert_eq!(next.as_ref().map(Url::as_str), expected, "{link}");
        }
    }

    #[test]
    fn the_hubs_own_names_are_those_of_the_library() {
        let page = r#"{"num_results": 2, "query": "a", "results": [
            {"name": "alpine", "description": "A\nsmall \u001b[31mone", "star_count": 5,
             "is_official": true, "is_automated": false},
            {"name": "x/y", "description": null}]}"#;
        let page: IndexPage = serde_json::from_str(page).unwrap();
        let found: Vec<_> = page
            .results
            .into_iter()
            .map(|item| item.found(DOCKER_HUB))
            .collect();
        assert_eq!(found[0].name, "docker.io/library/alpine");
        assert_eq!(found[0].description, "A small  [31mone");
        assert_eq!((found[0].stars, found[0].is_official), (5, true));
        assert_eq!(found[1].name, "docker.io/x/y");
    }
}
