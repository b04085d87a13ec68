"""Becomes the rosbridge server: run in its own environment, with the server's arguments.

The packages leave three things open: the binary's mode, the name of the middleware, and Python's library.
"""

import ctypes
import glob
import os
import stat
import sys
import sysconfig
from pathlib import Path

import rosbridge_server_rs


def library() -> str:
    """Python's own shared library, which the binary is linked to; OSError, naming it, where there is none."""
    place = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    shared = place.suffix != ".a" and place.exists()
    name = str(place) if shared else f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    ctypes.CDLL(name)
    return name


def main() -> None:
    site, lib = sysconfig.get_paths()["purelib"], Path(sys.prefix, "lib")
    os.environ["LD_PRELOAD"] = library()
    binary = Path(rosbridge_server_rs.__file__).with_name("rosbridge_server_rs_jazzy")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    link = lib / "librmw_implementation.so"
    if not link.exists():
        link.symlink_to("librmw_fastrtps_cpp.so")
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([str(lib), *glob.glob(site + "/ros_*.libs")])
    os.environ |= {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": sys.prefix}
    os.execv(binary, [str(binary), *sys.argv[1:]])


if __name__ == "__main__":
    main()
