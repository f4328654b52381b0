"""Discovery by etcd.

    backend      what the runtime sees, on its event loop
      sessions     one thread: a client after another, for as long as the runtime lives
        picture      what etcd holds, as far as the watch has told; what became of it
        registry     the numbers that this process holds, under its one lease
        doubt        whether a removal can be believed
        seam         what a client has to do
          client       … and the only file that knows `etcd3`, but for
          stubs        … which makes it run

Nothing here is imported, and etcd3 not at all, before this backend is chosen.
"""
