//! From events to requirements.
