"""nbgrader's view of the course: sources in solutions/, releases in exercises/."""

c = get_config()

c.CourseDirectory.course_id = "lookback"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
# The reviewed sources hold answers and hidden tests: none of them may travel with a release.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "feedback"]

c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("write your answer here")'}
c.ExecutePreprocessor.timeout = 120
