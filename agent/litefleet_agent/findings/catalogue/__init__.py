"""The catalogue's rows: code, slug, severity, verdict, why it happens, what to do.  Data only, a module for each hundred."""

from .connection import ROWS as CONNECTION
from .device import ROWS as DEVICE
from .files import ROWS as FILES
from .fleet import ROWS as FLEET
from .host import ROWS as HOST
from .run import ROWS as RUN
from .source import ROWS as SOURCE

ROWS = FILES + SOURCE + DEVICE + RUN + CONNECTION + FLEET + HOST
