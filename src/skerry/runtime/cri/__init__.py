"""Adapter to any CRI v1 runtime (containerd, CRI-O, Docker through cri-dockerd) over its unix socket.

``engine.CriRuntime`` is the ``PodRuntime`` and ``ContainerIO``, ``images.CriImages`` the ``ImageStore``; both speak
through one ``client.CriClient``. ``spec`` and ``observed`` are pure. ``probe`` finds what is wrong with an engine.
"""
