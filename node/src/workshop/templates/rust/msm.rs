//! What a service in Rust may ask of its device. Everything else is plain Rust: parameters in the environment, input on
//! stdin, output on stdout, the log on stderr.
#![allow(dead_code)]

#[link(wasm_import_module = "msm_v1")]
extern "C" {
    fn call(op: *const u8, op_length: usize, json: *const u8, json_length: usize) -> i32;
    fn take(to: *mut u8, capacity: usize) -> i32;
}

/// Asks for `op` (gps.position, net.fetch, device.status) with JSON. The answer, or an errno.
pub fn ask(op: &str, json: &str) -> Result<Vec<u8>, i32> {
    // SAFETY: the host reads these bytes and keeps nothing of them.
    let length = unsafe { call(op.as_ptr(), op.len(), json.as_ptr(), json.len()) };
    let mut answer = vec![0; usize::try_from(length).map_err(|_| -length)?];
    // SAFETY: the host writes at most so many bytes.
    let taken = unsafe { take(answer.as_mut_ptr(), answer.len()) };
    answer.truncate(usize::try_from(taken).map_err(|_| -taken)?);
    Ok(answer)
}
