"""Exported backbones as files that other libraries load strictly, each with a page that says how."""

from bench.exports.forms import FORMS, Form, find_form
from bench.exports.source import Source, read_source
from bench.exports.writing import write_form

__all__ = ["FORMS", "Form", "Source", "find_form", "read_source", "write_form"]
