"""From a trained supernet to chosen operating points and controllers."""
