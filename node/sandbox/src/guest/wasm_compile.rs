//! Compiles a module that passed the pre-check, in a child of its own: the compiler promises no bound on its time.

use std::hash::{Hash, Hasher};

use msm_protocol::ContentHash;
use wasmtime::Engine;

use super::{Failure, wasm, wasm_check};
use crate::wire::{CODE_BYTES, Fault};

/// The compiler. Made before the child is sealed: the engine sets its signals up even where nothing is run.
pub struct Compiler(Engine);

impl Compiler {
    pub fn new() -> Result<Self, Failure> {
        let engine = Engine::new(&wasm::config(true));
        engine.map(Self).map_err(|error| Failure::service(format!("there is no compiler for this machine: {error}")))
    }

    /// Code for [`wasm::Wasm::load`].
    pub fn compile(&self, source: &[u8]) -> Result<Vec<u8>, Failure> {
        let bad = |text: String| Failure::new(Fault::BadPackage, text);
        wasm_check::check(source).map_err(|error| bad(error.to_string()))?;
        let code = self.0.precompile_module(source).map_err(|error| bad(format!("it does not compile: {error:#}")))?;
        if code.len() > CODE_BYTES {
            return Err(bad(format!("compiled it has {} bytes, the limit is {CODE_BYTES}", code.len())));
        }
        Ok(code)
    }

    /// What compiled code depends on beside the module: version, settings, processor. Code of one fingerprint is of no
    /// use under another.
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Bytes::default();
        self.0.precompile_compatibility_hash().hash(&mut bytes);
        // What decides which modules are compiled at all.
        env!("CARGO_PKG_VERSION").hash(&mut bytes);
        wasm_check::VERSION.hash(&mut bytes);
        ContentHash::of(&bytes.0).as_bytes().to_vec()
    }
}

/// Keeps everything that is hashed, so that a hash of our choice can be taken of it.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.len() as u64
    }
}
