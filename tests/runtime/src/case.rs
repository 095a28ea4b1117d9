//! A case, and how it is played.

use rustix::process::geteuid;

use crate::cases::THEMES;
use crate::left;
use crate::outcome::{Outcome, Stop};
use crate::runtime::Runtime;
use crate::stage::Stage;

/// Who can play a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anybody.
    Nothing,
    /// An ordinary user.
    User,
    /// Root.
    Root,
    /// A cgroup v2 controller that the suite's cgroup can hand on.
    Controller(&'static str),
    /// A systemd that makes scopes for the caller.
    Systemd,
}

/// One thing that a section of the specification says.
#[derive(Debug)]
pub(crate) struct Case {
    /// What is so, in a few words.
    pub(crate) name: &'static str,
    /// Where it is said: a file of the specification and a heading.
    pub(crate) section: &'static str,
    /// Who can play it.
    pub(crate) needs: Needs,
    /// Plays it.
    pub(crate) play: fn(&Stage<'_>) -> Outcome,
}

impl Case {
    /// A case for anybody.
    pub(crate) const fn new(
        name: &'static str,
        section: &'static str,
        play: fn(&Stage<'_>) -> Outcome,
    ) -> Self {
        Self {
            name,
            section,
            needs: Needs::Nothing,
            play,
        }
    }

    /// The same for some only.
    pub(crate) const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
}

/// Cases of one subject.
pub(crate) struct Theme {
    /// The subject.
    pub(crate) name: &'static str,
    /// Its cases.
    pub(crate) cases: &'static [Case],
}

/// What came of a case.
#[derive(Clone, Debug)]
pub(crate) enum Result {
    /// It is so.
    Passed,
    /// It is not, and why.
    Failed(String),
    /// It was not played, and why.
    NotApplicable(String),
}

impl Result {
    /// Whether the runtime is wrong.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// A case with its theme.
pub(crate) type Named = (&'static Theme, &'static Case);

/// What came of several.
pub(crate) type Results = Vec<(Named, Result)>;

/// The cases whose `theme/name` begins with one of the filters.
pub(crate) fn chosen(filters: &[String]) -> Vec<Named> {
    let all = THEMES
        .iter()
        .flat_map(|theme| theme.cases.iter().map(move |case| (theme, case)));
    all.filter(|(theme, case)| {
        let name = format!("{}/{}", theme.name, case.name);
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| name.starts_with(filter.as_str()))
    })
    .collect()
}

/// Plays cases one after another, and tells of each.
pub(crate) fn run_all(
    runtime: &Runtime,
    cases: &[Named],
    mut tell: impl FnMut(Named, &Result),
) -> Results {
    let mut results = Vec::new();
    for (number, &named) in cases.iter().enumerate() {
        let result = run(runtime, named.1, number);
        tell(named, &result);
        results.push((named, result));
    }
    results
}

fn run(runtime: &Runtime, case: &Case, number: usize) -> Result {
    if let Some(missing) = missing(runtime, case.needs) {
        return Result::NotApplicable(missing);
    }
    let mounts = left::mounts();
    let stage = match Stage::new(runtime, number, case.needs == Needs::Systemd) {
        Ok(stage) => stage,
        Err(why) => return Result::Failed(format!("no stage: {why:?}")),
    };
    let played = (case.play)(&stage);
    let outcome = played.and(stage.clear());
    let left = left::unmount_since(&mounts);
    match outcome {
        Ok(()) | Err(Stop::NotApplicable(_)) if !left.is_empty() => {
            Result::Failed(format!("left mounted: {}", left.join(", ")))
        }
        Ok(()) => Result::Passed,
        Err(Stop::Fails(why)) => Result::Failed(why),
        Err(Stop::NotApplicable(why)) => Result::NotApplicable(why),
    }
}

fn missing(runtime: &Runtime, needs: Needs) -> Option<String> {
    match needs {
        Needs::Nothing => None,
        Needs::User => geteuid().is_root().then(|| "an ordinary user's".to_owned()),
        Needs::Root => (!geteuid().is_root()).then(|| "root's".to_owned()),
        Needs::Controller(name) => {
            (!runtime.has_controller(name)).then(|| format!("no cgroup v2 controller {name}"))
        }
        Needs::Systemd => {
            let manager = runtime.session().join("systemd/private");
            (!manager.exists()).then(|| "no systemd".to_owned())
        }
    }
}
