"""Stored data of an older version, as the job that is declared now takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import payload
from ..definitions.definition import JobDefinition
from ..errors import EncryptionError, PayloadError


def current_arguments(
    definition: JobDefinition, data: Mapping[str, Any], version: int
) -> dict[str, Any]:
    """Return stored data as arguments of the declared version.

    Sensitive values stay encrypted, unless they had to be read for an upgrade.

    Raises:
        PayloadError: the data are of a later version, or cannot be upgraded.
        EncryptionError: a sensitive value cannot be read.
    """
    if version > definition.version:
        raise PayloadError(
            f"{definition.name}: the data have version {version}, and this process knows version "
            f"{definition.version}: deploy the newer code here first"
        )
    if version == definition.version:
        return payload.decode(data, keep_sealed=True)

    try:
        return definition.upgraded(payload.decode(data), version)
    except (PayloadError, EncryptionError):
        raise
    except Exception as error:
        raise PayloadError(
            f"{definition.name}: the data cannot be upgraded from version {version} to "
            f"{definition.version}: {type(error).__name__}: {error}"
        ) from error


def current_data(
    definition: JobDefinition | None, data: Mapping[str, Any], version: int
) -> Mapping[str, Any]:
    """Return stored data in the declared version, in stored form; as they are if none is declared.

    Raises: as ``current_arguments``.
    """
    if definition is None or version == definition.version:
        return data
    arguments = current_arguments(definition, data, version)
    return payload.encode(arguments, sensitive=definition.sensitive)
