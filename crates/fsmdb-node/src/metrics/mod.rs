//! What a node counts and measures, as OpenMetrics text.
//!
//! The only room that names `prometheus_client`.
