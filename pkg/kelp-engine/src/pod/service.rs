//! Service containers: one stands for the pods of a unit of systemd's, and ends when all of those have ended.

use kelp_monitor::attach::Pipes;
use kelp_state::ContainerId;

use crate::container::CreateOptions;
use crate::container::config::Notify;
use crate::container::remove::RemoveOptions;
use crate::image::pause::NAME as PAUSE_IMAGE;
use crate::pod::Service;
use crate::{Engine, Error, Kind};

impl Engine {
    /// Makes a service container, which is removed once it has ended.
    pub fn create_service(&self, mut options: CreateOptions) -> Result<ContainerId, Error> {
        PAUSE_IMAGE.clone_into(&mut options.image);
        self.ensure_pause_image()?;
        options.notify = Some(Notify::Conmon);
        options.remove = true;
        options.serves_pods = true;
        self.create_container(options)
    }

    /// Starts a service container once its pods run: it tells the service manager that the unit is ready. Pods that
    /// have ended meanwhile end it.
    pub fn start_service(&self, service: &Service) -> Result<(), Error> {
        let pipes = Pipes {
            is_main: true,
            ..Pipes::default()
        };
        self.start_container(&service.container, pipes)?;
        kelp_monitor::service::leave(&self.paths, service);
        Ok(())
    }

    /// Removes a service container that has no pods any more.
    pub fn remove_service(&self, service: &Service) -> Result<(), Error> {
        let is_its = |it: &Service| it.container == service.container;
        let pods = self.pods();
        if pods
            .iter()
            .any(|pod| pod.service.as_ref().is_some_and(is_its))
        {
            return Ok(());
        }
        match self.remove_container(&service.container, &RemoveOptions::KILL) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
