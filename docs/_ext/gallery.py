"""The order of the examples: what a newcomer wants to see comes first."""

FIRST = (
    "plot_one_density",
    "plot_gallery_of_pictures",
    "plot_galaxy_parameters",
    "plot_photometric_redshifts",
    "plot_joint_test",
    "plot_recalibration",
    "plot_missing_bands",
    "plot_spectra_and_photometry",
    "plot_grid_search",
    "plot_own_likelihood",
)


class Order:
    """Key for sorting: the place in `FIRST`, behind it the name."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, filename: str) -> tuple[int, str]:
        """Key of one example."""
        stem = filename.removesuffix(".py")
        return (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)

    def __repr__(self) -> str:
        return "Order()"
