//! IP addresses and UUIDs: fixed-width keys in network byte order.
//!
//! # Invariants
//!
//! 1. The octets in network order compare as the addresses do.
//! 2. An `IpAddr` starts with its version, 4 or 6, as all IPv4 addresses sort before all IPv6
//!    ones. An IPv4 address mapped into IPv6 is an IPv6 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

const VERSION_4: u8 = 4;
const VERSION_6: u8 = 6;

macro_rules! octets_key {
    ($($address:ty),+) => {$(
        impl AsKey<$address> for $address {
            fn encode_key(&self, out: &mut KeyBuf) {
                out.extend(&self.octets());
            }
        }

        impl Key for $address {
            fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                Ok(Self::from_octets(reader.array()?))
            }
        }
    )+};
}

octets_key!(Ipv4Addr, Ipv6Addr);

impl AsKey<IpAddr> for IpAddr {
    fn encode_key(&self, out: &mut KeyBuf) {
        match self {
            Self::V4(address) => {
                out.push(VERSION_4);
                address.encode_key(out);
            }
            Self::V6(address) => {
                out.push(VERSION_6);
                address.encode_key(out);
            }
        }
    }
}

impl Key for IpAddr {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let offset = reader.position();
        match reader.byte()? {
            VERSION_4 => Ipv4Addr::decode_key(reader).map(Self::V4),
            VERSION_6 => Ipv6Addr::decode_key(reader).map(Self::V6),
            _ => Err(KeyError::Invalid { offset, expected: "ip version" }),
        }
    }
}

#[cfg(feature = "uuid")]
impl AsKey<uuid::Uuid> for uuid::Uuid {
    fn encode_key(&self, out: &mut KeyBuf) {
        out.extend(self.as_bytes());
    }
}

#[cfg(feature = "uuid")]
impl Key for uuid::Uuid {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok(Self::from_bytes(reader.array()?))
    }
}
