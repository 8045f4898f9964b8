//! The modules of a package: which file an import means, and each file compiled once per child.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use rquickjs::{
    Ctx, Error, Exception, Module, Object, Result, Value, WriteOptions,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
    qjs,
};

use crate::{guest::host::Host, wire::Loaded};

/// The modules of the package in hand.
#[derive(Clone)]
pub struct Modules {
    host: Rc<Host>,
    /// By their names; the main module's is the package's label.
    compiled: Rc<RefCell<HashMap<String, Rc<Compiled>>>>,
}

impl Modules {
    pub fn new(host: &Rc<Host>) -> Self {
        Self { host: host.clone(), compiled: Rc::default() }
    }

    /// Forgets what it has compiled: another package comes.
    pub fn clear(&self) {
        self.compiled.borrow_mut().clear();
    }

    /// Begins to evaluate the main module: its namespace, and a promise of its end.
    pub fn evaluate<'js>(&self, ctx: &Ctx<'js>, package: &Loaded) -> Result<(Object<'js>, Value<'js>)> {
        let known = self.compiled.borrow().get(&package.label).cloned();
        match known {
            Some(compiled) => compiled.evaluate(ctx),
            None => {
                let module = self.declare(ctx, &package.label, &package.source)?;
                let (module, promise) = module.eval()?;
                Ok((module.namespace()?, promise.into_value()))
            }
        }
    }

    fn declare<'js>(&self, ctx: &Ctx<'js>, name: &str, source: &[u8]) -> Result<Module<'js, Declared>> {
        let module = Module::declare(ctx.clone(), name, source)?;
        if let Some(compiled) = Compiled::of(&module) {
            self.compiled.borrow_mut().insert(name.to_owned(), Rc::new(compiled));
        }
        Ok(module)
    }
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        let package = self.host.package();
        let known = |path: &str| package.modules.iter().any(|(known, _)| known == path);
        let is_main = base == package.label || !known(base);
        let why = match attributes {
            Some(_) => Err("import attributes are not supported".to_owned()),
            None => resolve(if is_main { "" } else { base }, name, known),
        };
        why.map_err(|why| {
            let base = if is_main { "the main module" } else { base };
            Exception::throw_reference(ctx, &format!("could not load module '{name}' for {base}: {why}"))
        })
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let known = self.compiled.borrow().get(name).cloned();
        if let Some(compiled) = known {
            return compiled.load(ctx);
        }
        let package = self.host.package();
        let source = package.modules.iter().find(|(path, _)| path == name);
        let (_, source) = source.ok_or_else(|| Error::new_loading(name))?;
        if source.contains(&0) {
            return Err(Error::new_loading_message(name, "it is not JavaScript text"));
        }
        self.declare(ctx, name, source)
    }
}

/// The path that `name` means in the module at `base`; the empty base is the main module. Else why there is none.
fn resolve(base: &str, name: &str, known: impl Fn(&str) -> bool) -> std::result::Result<String, String> {
    if !name.starts_with("./") && !name.starts_with("../") {
        return Err(match name {
            _ if name.starts_with('/') => "a path begins with ./ or ../".into(),
            _ if name.contains(':') => "a service imports only files of its own package".into(),
            _ => "bundle it first, or give the path of a file in the package, such as ./lib/it.js".into(),
        });
    }
    let mut path: Vec<&str> = base.split('/').collect();
    path.pop();
    for step in name.split('/') {
        match step {
            "." | "" => {}
            ".." => {
                path.pop().ok_or("it lies outside the main module's folder")?;
            }
            step => path.push(step),
        }
    }
    let path = path.join("/");
    if known(&path) {
        return Ok(path);
    }
    let near = [format!("{path}.js"), format!("{path}.mjs"), format!("{path}/index.js")];
    let hint = near.iter().find(|near| known(near)).map(|near| format!(", but {near} is"));
    // Its name is not known here, so a cycle through it looks like any missing file.
    let main =
        if base.is_empty() { "" } else { " (the main module cannot be imported: move what both need to a file)" };
    Err(format!("{path} is not in the package{}", hint.as_deref().unwrap_or(main)))
}

/// A module that this process has compiled itself. The engine believes compiled code, so nothing that came over the
/// channel is ever taken for it: there is no way from bytes to this type but through the compiler.
pub struct Compiled(Vec<u8>);

impl Compiled {
    pub fn of(module: &Module<'_>) -> Option<Self> {
        // Positions stay for error texts; the text itself is not needed again.
        module.write(WriteOptions { strip_source: true, ..WriteOptions::default() }).ok().map(Self)
    }

    /// The module, for another one that imports it.
    pub fn load<'js>(&self, ctx: &Ctx<'js>) -> Result<Module<'js, Declared>> {
        // SAFETY: these bytes were written by this engine in this process, from a module that it compiled.
        unsafe { Module::load(ctx.clone(), &self.0) }
    }

    /// Loads the modules that this one imports, and begins to evaluate it: its namespace, and a promise of its end.
    fn evaluate<'js>(&self, ctx: &Ctx<'js>) -> Result<(Object<'js>, Value<'js>)> {
        let raw = ctx.as_raw().as_ptr();
        // SAFETY: the bytes are this engine's, as above; each call below gets the context of a live `ctx`, and a value
        // that the call before has just given. Evaluating takes one count of the module, which `Module::eval` also adds
        // first.
        unsafe {
            let flags = qjs::JS_READ_OBJ_BYTECODE | qjs::JS_READ_OBJ_ROM_DATA;
            let module = qjs::JS_ReadObject(raw, self.0.as_ptr(), self.0.len() as _, flags as i32);
            let is_module = qjs::JS_VALUE_GET_TAG(module) == qjs::JS_TAG_MODULE;
            if !is_module || qjs::JS_ResolveModule(raw, module) < 0 {
                return Err(Error::Exception);
            }
            let definition = qjs::JS_VALUE_GET_PTR(module).cast();
            qjs::JS_DupValue(raw, module);
            let promise = Value::from_raw(ctx.clone(), given(qjs::JS_EvalFunction(raw, module))?);
            let namespace = Value::from_raw(ctx.clone(), given(qjs::JS_GetModuleNamespace(raw, definition))?);
            Ok((Object::from_value(namespace)?, promise))
        }
    }
}

fn given(value: qjs::JSValue) -> Result<qjs::JSValue> {
    // SAFETY: reads the tag only.
    if unsafe { qjs::JS_VALUE_GET_NORM_TAG(value) } == qjs::JS_TAG_EXCEPTION {
        return Err(Error::Exception);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn imports_mean_files_of_the_package_and_nothing_else() {
        let files = ["a.js", "lib/b.js", "lib/deep/c.mjs", "lib/index.js"];
        let table = [
            ("", "./a.js", Ok("a.js")),
            ("", "././lib//b.js", Ok("lib/b.js")),
            ("lib/b.js", "./deep/c.mjs", Ok("lib/deep/c.mjs")),
            ("lib/b.js", "../a.js", Ok("a.js")),
            ("lib/deep/c.mjs", "../../lib/../a.js", Ok("a.js")),
            ("", "../a.js", Err("outside")),
            ("lib/b.js", "../../a.js", Err("outside")),
            ("", "./lib/../../x/a.js", Err("outside")),
            ("", "/a.js", Err("begins with ./")),
            ("", "a.js", Err("bundle it first")),
            ("", "lodash", Err("bundle it first")),
            ("", "", Err("bundle it first")),
            ("", "node:fs", Err("own package")),
            ("", "https://example.org/x.js", Err("own package")),
            ("", "data:text/javascript,1", Err("own package")),
            ("", "./a", Err("but a.js is")),
            ("", "./lib", Err("but lib/index.js is")),
            ("lib/b.js", "./deep/c", Err("but lib/deep/c.mjs is")),
            ("", "./none.js", Err("none.js is not in the package")),
            ("lib/b.js", "../main.js", Err("main.js is not in the package (the main module cannot be imported")),
            ("", "./a.js?1", Err("not in the package")),
            ("", "./A.js", Err("not in the package")),
            ("", "./lib\\b.js", Err("not in the package")),
            ("", "./%61.js", Err("not in the package")),
        ];
        for (base, name, expected) in table {
            let got = resolve(base, name, |path| files.contains(&path));
            match expected {
                Ok(path) => assert_eq!(got.as_deref(), Ok(path), "{name} in {base}"),
                Err(part) => assert!(got.as_ref().is_err_and(|why| why.contains(part)), "{name} in {base}: {got:?}"),
            }
        }
    }
}
