//! The proof that a call of a resource was asked for, granted, and is within the device's ceiling.

use msm_protocol::PeerId;

use crate::resources::{
    quota::Quota,
    words::{Caller, Precision},
};

/// Proof that a call may use the resource `R`. Nothing outside the gate can make one, so a resource that demands one
/// cannot be reached by a call that was not checked:
///
/// ```compile_fail
/// use msm_node::resources::{DeviceState, Permit, device};
/// fn ungated(sample: &msm_node::monitor::Sample) {
///     // No caller, no service, no permit: there is nothing to write here.
///     let permit = Permit { right: DeviceState(()), caller: todo!(), service: todo!() };
///     device::status(&permit, sample, "attic");
/// }
/// ```
///
/// The same with a permit that the gate gave compiles:
///
/// ```
/// use msm_node::resources::{DeviceState, Permit, device};
/// fn gated(permit: &Permit<DeviceState>, sample: &msm_node::monitor::Sample) {
///     device::status(permit, sample, "attic");
/// }
/// ```
#[derive(Debug)]
pub struct Permit<R> {
    right: R,
    caller: Caller,
    service: String,
}

/// To know where the device is.
#[derive(Debug)]
pub struct Gps {
    pub(super) precision: Precision,
}

/// To fetch from the web.
#[derive(Debug)]
pub struct Net {
    pub(super) asked: Vec<String>,
    pub(super) granted: Vec<String>,
    pub(super) owner: Vec<String>,
    pub(super) quota: Quota,
}

/// To know the coarse state of the device.
#[derive(Debug)]
pub struct DeviceState(pub(super) ());

impl<R> Permit<R> {
    /// For the gate alone, after its checks.
    pub(super) fn new(right: R, caller: Caller, service: String) -> Self {
        Self { right, caller, service }
    }

    /// On whose behalf the guest runs.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The same by its id.
    pub fn peer(&self) -> PeerId {
        self.caller.peer
    }

    /// The service, `name@version`.
    pub fn service(&self) -> &str {
        &self.service
    }
}

impl Permit<Gps> {
    /// The least of what was asked, granted and allowed on this device.
    pub fn precision(&self) -> Precision {
        self.right.precision
    }
}

impl Permit<Net> {
    /// Lists of host patterns: the manifest's, those that were granted, and the owner's. A host must fit a pattern of
    /// each list.
    pub fn host_lists(&self) -> [&[String]; 3] {
        [&self.right.asked, &self.right.granted, &self.right.owner]
    }

    /// What may still be fetched for this caller today.
    pub fn quota(&self) -> &Quota {
        &self.right.quota
    }
}
