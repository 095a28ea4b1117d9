//! `--device-read-bps` and its like: how fast a device may be used.

use std::path::PathBuf;

use crate::{Error, scalar, size};

/// A device, and how much of it: bytes or operations a second, or a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRate {
    /// The device's file on the host.
    pub device: PathBuf,
    /// How much.
    pub rate: u64,
}

/// `PATH:RATE` in bytes a second, with a unit: `/dev/sda:1mb`.
pub fn bytes(text: &str) -> Result<DeviceRate, Error> {
    parse(text, "PATH:RATE, such as /dev/sda:1mb", |rate| {
        size::bytes(rate).ok()
    })
}

/// `PATH:RATE` in operations a second: `/dev/sda:1000`.
pub fn operations(text: &str) -> Result<DeviceRate, Error> {
    parse(text, "PATH:RATE, such as /dev/sda:1000", scalar::number)
}

/// `PATH:WEIGHT`, from 10 to 1000.
pub fn weight(text: &str) -> Result<DeviceRate, Error> {
    let weight = |text: &str| scalar::number(text).filter(|weight| (10..=1000).contains(weight));
    parse(
        text,
        "PATH:WEIGHT, where the weight is from 10 to 1000",
        weight,
    )
}

fn parse(text: &str, form: &str, rate: impl Fn(&str) -> Option<u64>) -> Result<DeviceRate, Error> {
    let invalid = || Error::invalid("rate of a device", text, format_args!("it is {form}"));
    let (device, number) = text.rsplit_once(':').ok_or_else(invalid)?;
    if !device.starts_with("/dev/") {
        return Err(invalid());
    }
    Ok(DeviceRate {
        device: PathBuf::from(device),
        rate: rate(number).ok_or_else(invalid)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_a_device() {
        let rate = |rate| {
            Ok(DeviceRate {
                device: "/dev/sda".into(),
                rate,
            })
        };
        assert_eq!(bytes("/dev/sda:1mb"), rate(1 << 20));
        assert_eq!(operations("/dev/sda:1000"), rate(1000));
        assert_eq!(weight("/dev/sda:200"), rate(200));
        for text in [
            "sda:1",
            "/dev/sda",
            "/dev/sda:",
            "/dev/sda:x",
            "/dev/sda:-1",
        ] {
            assert!(bytes(text).is_err(), "{text}");
            assert!(operations(text).is_err(), "{text}");
            assert!(weight(text).is_err(), "{text}");
        }
        assert!(operations("/dev/sda:1k").is_err());
        assert!(weight("/dev/sda:5").is_err());
    }
}
