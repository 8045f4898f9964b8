//! [`Project`]: a service's folder, packed as it is now.

use std::path::{Path, PathBuf};

use msm_market_index::{Package, Recipe, VariantRecipe, pack_folder, read_recipe};
use msm_protocol::manifest::Engine;

use super::WorkshopError;
use crate::node::packages::Installed;

/// The folder for what tools write beside a service; hidden, so never packed.
pub const SCRATCH: &str = ".msm";

/// A folder with a `service.toml` whose variants are there.
#[derive(Debug)]
pub struct Project {
    /// The folder.
    pub folder: PathBuf,
    /// How its variants are made, in the order of the package's.
    pub recipe: Recipe,
    /// As it would be published.
    pub package: Package,
}

/// A variant of a project, ready to run.
#[derive(Debug, Clone)]
pub struct Variant {
    /// `js`, `wasm`, or with a number where an engine has several: `js-2`.
    pub name: String,
    /// As a node would have it.
    pub service: std::sync::Arc<Installed>,
    /// Its main file, from the folder.
    pub file: String,
}

impl Project {
    /// Packs the service in `folder`; nothing is built.
    pub fn open(folder: &Path) -> Result<Self, WorkshopError> {
        let package = pack_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), recipe: read_recipe(folder)?, package })
    }

    /// The variants in order of preference; with `only`, those of this name or engine.
    pub fn variants(&self, only: Option<&str>) -> Result<Vec<Variant>, WorkshopError> {
        let names = variant_names(&self.recipe.variants);
        let all = names.iter().zip(&self.recipe.variants).enumerate();
        let chosen =
            all.filter(|(_, (name, recipe))| only.is_none_or(|only| only == **name || only == recipe.engine.as_str()));
        let variants: Vec<Variant> = chosen
            .filter_map(|(index, (name, recipe))| {
                let service = Installed::of_package(&self.package, index)?;
                Some(Variant { name: name.clone(), service: service.into(), file: recipe.file.clone() })
            })
            .collect();
        match only {
            Some(only) if variants.is_empty() => Err(WorkshopError::NotFound(format!(
                "no variant {only:?}: {} has {}",
                self.package.manifest.name,
                names.join(", ")
            ))),
            _ => Ok(variants),
        }
    }

    /// A place in the scratch folder, which is made if need be.
    pub fn scratch(&self, name: &str) -> Result<PathBuf, WorkshopError> {
        let folder = self.folder.join(SCRATCH);
        std::fs::create_dir_all(&folder).map_err(WorkshopError::io(&folder))?;
        Ok(folder.join(name))
    }
}

/// Path of a file of a service as its author would type it.
pub fn path_in(folder: &Path, file: &str) -> String {
    if folder == Path::new(".") { file.to_owned() } else { folder.join(file).display().to_string() }
}

fn variant_names(variants: &[VariantRecipe]) -> Vec<String> {
    let number =
        |index: usize, engine: Engine| variants[..index].iter().filter(|other| other.engine == engine).count() + 1;
    let name = |(index, variant): (usize, &VariantRecipe)| match number(index, variant.engine) {
        1 => variant.engine.as_str().to_owned(),
        n => format!("{}-{n}", variant.engine.as_str()),
    };
    variants.iter().enumerate().map(name).collect()
}
