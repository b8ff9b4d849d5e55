//! Several projects in one service.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use hearken_collect::parts::Parts;
use hearken_collect::{Media, Options, Project, Projects};

use super::live::Live;
use super::{Collect, serve, who};
use crate::features::LocalTrainer;
use crate::interrupt::interrupted;

/// Serves the projects of `--projects`. Images of a project are in the folder of its name below `--media`.
pub(super) fn run(collect: &Collect) -> Result<ExitCode> {
    let options = collect.options()?;
    let names: Vec<&str> =
        collect.projects.iter().filter_map(|given| Some(given.split_once('=')?.0)).collect();
    for given in &collect.live_of {
        let name = Live::project_of(given)?;
        ensure!(
            names.contains(&name),
            "--live {given:?}: found the project {name:?}, expected one of {}",
            names.join(", ")
        );
    }
    let projects: Result<Vec<Project>> =
        collect.projects.iter().map(|given| project(collect, given, &options)).collect();
    let projects = Projects::new(projects?)?;
    let line = |(name, service): &(String, _)| {
        let home = hearken_collect::Service::state(service).store().home();
        (format!("/p/{name}/"), format!("{name}: store: {home}; {}", who(service)))
    };
    let said = projects.services().iter().map(line).collect();
    let listening = projects.clone();
    let listen = async move || listening.listen().await;
    serve(&options, said, listen, |listener| projects.serve(listener, interrupted()))
}

fn project(collect: &Collect, given: &str, options: &Options) -> Result<Project> {
    let (name, store) = given
        .split_once('=')
        .with_context(|| format!("--projects: found {given:?}, expected NAME=STORE"))?;
    let store = hearken_store::open(store).with_context(|| format!("--projects {name}"))?;
    let media = collect.media.as_ref().map(|folder| Media::Folder(folder.join(name)));
    let answerers = Live::of_project(&collect.live_of, name)?.answerers()?;
    let feature_trainer = Box::new(LocalTrainer);
    Ok(Project {
        name: name.to_owned(),
        store: Arc::from(store),
        parts: Parts { answerers, feature_trainer: Some(feature_trainer), ..Parts::default() },
        options: Options { title: Some(name.to_owned()), media, ..options.clone() },
    })
}
