//! The containers of one unit: one decision for each, one restart for all.

use std::collections::{BTreeMap, BTreeSet};

use kelp_image::Digest;
use kelp_image::offer::offered;
use kelp_image::platform::Platform;
use kelp_image::pull::{Images, LocalImage};
use kelp_image::reference::Reference;
use kelp_image::store::ImageRecord;

use super::decide::{Decision, UnitState, by_name, by_registry};
use super::failed::Failed;
use super::pin::Pin;
use super::restart::Failure;
use super::{Candidate, Policy, UpdateRequest, Updated, Updates, about, platform_of, policy};
use crate::image::pull::PullRequest;
use crate::{Engine, Error, Kind};

/// What was decided about a container, and what it takes to do that.
#[derive(Debug)]
struct Plan {
    decision: Decision,
    /// The name whose image it gets.
    name: Option<Reference>,
    /// The image that it was made of.
    image: ImageRecord,
    /// Which image of an index that is.
    platform: Platform,
}

/// A container whose new image is here.
struct Brought<'a> {
    container: &'a Candidate,
    pin: Pin,
    /// The new image.
    image: ImageRecord,
}

/// A run over all units.
pub(super) struct Run<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a UpdateRequest,
    pub(super) updates: Updates,
    /// Units that have an image since this run, by its name.
    pub(super) since: BTreeMap<String, Vec<String>>,
}

impl Run<'_> {
    /// Updates the containers of one unit; what came of each is added to what is told.
    pub(super) fn update(&mut self, unit: &str, containers: &[Candidate]) {
        let mut results = vec![Updated::No; containers.len()];
        let mut plans = Vec::new();
        for (index, container) in containers.iter().enumerate() {
            match self.plan(container) {
                Ok(plan) if plan.decision == Decision::Update => plans.push((index, plan)),
                Ok(_) => {}
                Err(error) => {
                    results[index] = Updated::Failed;
                    self.tell(container, &error);
                }
            }
        }
        if self.request.dry_run {
            for (index, _) in &plans {
                results[*index] = Updated::Pending;
            }
        } else if !plans.is_empty() {
            self.carry_out(unit, containers, plans, &mut results);
        }
        let done = containers.iter().zip(results);
        let done = done.map(|(container, result)| container.update(result));
        self.updates.containers.extend(done);
    }

    fn tell(&mut self, container: &Candidate, error: &Error) {
        self.updates.errors.push(about(&container.name, error));
    }

    /// Decides about a container, and says so where an image that has failed is left out.
    fn plan(&mut self, container: &Candidate) -> Result<Plan, Error> {
        let store = self.engine.store()?;
        let id = Digest::from_hex(&container.image_id);
        let image = id.map_or(Ok(None), |id| store.record(&id))?;
        let Some(image) = image else {
            let text = "there is no image that it was made of";
            return Err(Error::new(Kind::NotFound, text));
        };
        let platform = platform_of(image.platform());
        if container.policy == Policy::Local {
            let named = store.find(&container.image)?;
            let name = store.meant_name(&container.image)?;
            let name = name.map(|name| Reference::parse(&name));
            return Ok(Plan {
                decision: by_name(&image.id, &named.id),
                name: name.transpose().map_err(kelp_image::Error::from)?,
                image,
                platform,
            });
        }
        let name = policy::reference(&container.image)?;
        let local = LocalImage {
            id: image.id.clone(),
            platform: image.platform(),
        };
        let access = pull_request(container, self.request).access.options()?;
        let offer = offered(&store, &name, &local, &platform, &access)?;
        let named = Images::find(&store, &name)?.map(|named| named.id);
        let failed = self.engine.failed_image(&name.to_string());
        let decision = by_registry(offer.as_ref(), named.as_ref(), failed.as_ref());
        if let (Decision::Failed, Some(failed)) = (&decision, failed) {
            self.updates.told.push(format!(
                "container {}: {name} is not updated to {}, which has failed in {} ({}): kelp pull {name} has it \
                 tried again",
                container.name, failed.manifest, failed.unit, failed.why
            ));
        }
        Ok(Plan {
            decision,
            name: Some(name),
            image,
            platform,
        })
    }

    /// Does what was decided: images first, then one restart.
    fn carry_out(
        &mut self,
        unit: &str,
        containers: &[Candidate],
        plans: Vec<(usize, Plan)>,
        results: &mut [Updated],
    ) {
        // What systemd does not know is not worth a pull.
        let before = match self.engine.unit_state(unit) {
            Ok(before) => before,
            Err(error) => {
                for (index, _) in plans {
                    results[index] = Updated::Failed;
                    self.tell(&containers[index], &error);
                }
                return;
            }
        };
        let mut indexes = Vec::new();
        let mut brought = Vec::new();
        for (index, plan) in plans {
            match self.new_image(&containers[index], plan) {
                Ok(Some(new)) => {
                    indexes.push(index);
                    brought.push(new);
                }
                Ok(None) => {}
                Err(error) => {
                    results[index] = Updated::Failed;
                    self.tell(&containers[index], &error);
                }
            }
        }
        if brought.is_empty() {
            return;
        }
        let result = self.start_with(unit, &before, &brought);
        let result = result.unwrap_or_else(|error| {
            let names = brought.iter().map(|new| new.container.name.as_str());
            let names: Vec<_> = names.collect();
            self.updates.errors.push(about(&names.join(", "), &error));
            Updated::Failed
        });
        for index in indexes {
            results[index] = result;
        }
    }

    /// Brings the image that a container is to have, and keeps the one that it has; `None` if that is the same.
    fn new_image<'a>(
        &self,
        container: &'a Candidate,
        plan: Plan,
    ) -> Result<Option<Brought<'a>>, Error> {
        let store = self.engine.store()?;
        let Some(name) = plan.name else {
            return Err(Error::invalid(format!(
                "{} is no name that can be given to another image",
                container.image
            )));
        };
        let pin = Pin::new(&store, name, plan.image)?;
        let name = pin.name.to_string();
        let image = match container.policy {
            Policy::Local => store.find(&name)?,
            Policy::Registry => {
                let mut pull = pull_request(container, self.request);
                if plan.platform != Platform::host() {
                    pull.platform = Some(plan.platform.to_string());
                }
                store.find(&self.engine.pull_image(&name, &pull)?)?
            }
        };
        let brought = Brought {
            container,
            pin,
            image,
        };
        Ok(Some(brought).filter(|new| new.image.id != new.pin.image.id))
    }

    /// Starts a unit again with its new images, or else with the old ones.
    fn start_with(
        &mut self,
        unit: &str,
        before: &UnitState,
        brought: &[Brought<'_>],
    ) -> Result<Updated, Error> {
        let new = brought.iter();
        let new: Vec<_> = new.map(|new| (new.container, &new.image.id)).collect();
        let failure = match self.engine.restart_unit(unit, before, &new) {
            Ok(()) => {
                for name in names(brought) {
                    self.engine.forget_failed(&name);
                    self.since.entry(name).or_default().push(unit.to_owned());
                }
                return Ok(Updated::Yes);
            }
            Err(failure) => failure,
        };
        let why = &failure.why;
        if !self.request.rollback {
            return Err(Error::new(Kind::Failed, why));
        }
        let rolled_back = self.roll_back(unit, before, brought, &failure);
        rolled_back.map_err(|error| {
            let text = format!("{why}; and with the old image: {}", error.line());
            Error::new(Kind::Failed, text)
        })?;
        if failure.is_taken {
            return Err(Error::new(Kind::Failed, why));
        }
        let told = &mut self.updates.told;
        told.push(format!("{unit} has its old image again: {why}"));
        for name in names(brought) {
            for other in self.since.get(&name).into_iter().flatten() {
                told.push(format!(
                    "{other} runs with the new image of {name}, and has the old one from its next start on"
                ));
            }
        }
        Ok(Updated::RolledBack)
    }

    /// Gives names their old images back, and starts the unit again with those, unless it is in somebody else's
    /// hands.
    fn roll_back(
        &self,
        unit: &str,
        before: &UnitState,
        brought: &[Brought<'_>],
        failure: &Failure,
    ) -> Result<(), Error> {
        let store = self.engine.store()?;
        let mut noted = Ok(());
        // Two containers of one name may have had two images: the first counts.
        let mut images = BTreeMap::new();
        for new in brought {
            let name = new.pin.name.to_string();
            if images.contains_key(&name) {
                continue;
            }
            new.pin.restore(&store)?;
            let old = &new.pin.image.id;
            self.engine.note_image("tag", old.hex(), &name);
            images.insert(name.clone(), old);
            if failure.is_taken || new.container.policy == Policy::Local {
                // Nothing is to be held against the image; or no run finds it by itself again.
                continue;
            }
            let (id, manifest) = (new.image.id.clone(), new.image.manifest.clone());
            let failed = Failed::new(&name, id, manifest, unit, &failure.why);
            noted = noted.and(self.engine.note_failed(&failed));
        }
        if failure.is_taken {
            return Ok(());
        }
        let old = brought.iter();
        let old = old.map(|new| (new.container, images[&new.pin.name.to_string()]));
        let old: Vec<_> = old.collect();
        let restarted = self.engine.restart_unit(unit, before, &old);
        restarted.map_err(|failure| Error::new(Kind::Failed, failure.why))?;
        noted
    }
}

/// The names whose images were brought, each once.
fn names(brought: &[Brought<'_>]) -> BTreeSet<String> {
    let names = brought.iter();
    names.map(|new| new.pin.name.to_string()).collect()
}

/// How the image of a container is pulled.
fn pull_request(container: &Candidate, request: &UpdateRequest) -> PullRequest {
    let mut access = request.access.clone();
    if let Some(authfile) = &container.authfile {
        access.authfile = Some(authfile.clone());
    }
    PullRequest {
        access,
        user: container.user.clone(),
        ..PullRequest::default()
    }
}
