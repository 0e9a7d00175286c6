"""The public interface, in rooms that are loaded when they are first used; `tadp_ray` names what is public in them."""
