# What `make lock` makes of uv's markers: every line holds for Linux and the supported Pythons.
s/ ; python_full_version < '3.15' and sys_platform == 'linux'$//
s/python_full_version < '3.15' and //
s/ and python_full_version < '3.15'//
s/ and sys_platform == 'linux'//g
1i # Every package at the version that was tested, for all supported Pythons on Linux (make lock).\
# torch: the CUDA build, whose packages come with it, or a CPU build where one is provided.
